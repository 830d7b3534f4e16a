// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// formatted builds a request whose content is of that format.
func formatted(path string, f abi.Format) *abi.Request {
	r := unhashed(path)
	r.Format = f
	return r
}

// TestDecideByBoth: of two facts that are not known the cheap one is needed first, and each
// only where it changes something.
func TestDecideByBoth(t *testing.T) {
	const src = "version: 1\ndefault: {deny: EROFS}\nscope: {paths: [/]}\nrules:\n" +
		"- {id: both, events: [exec], object: {path: {prefix: /both}, format: elf, sha256: " + sumA + "}, verdict: allow}\n" +
		"- {id: but-both, events: [exec], object: {path: {prefix: /but}}, not: {object: {format: script, sha256: " + sumA + "}}, verdict: deny}\n" +
		"- {id: apart, events: [exec], object: {path: {prefix: /apart}, sha256: " + sumA + "}, not: {object: {format: script}}, verdict: allow}\n" +
		"- {id: files, events: [exec], object: {path: {prefix: /files}, format: [other, script, elf]}, verdict: allow}\n" +
		"- {id: first, events: [exec], object: {path: {prefix: /two}, format: script}, verdict: allow}\n" +
		"- {id: second, events: [exec], object: {path: {prefix: /two}, sha256: " + sumA + "}, verdict: allow}\n"
	const none, elf, script, other = abi.FormatUnknown, abi.FormatELF, abi.FormatScript, abi.FormatOther
	rs := mustLoad(t, src)
	for _, tc := range []struct {
		path   string
		format abi.Format
		digest int // a byte of it, -1 when it is not known
		rule   string
		needs  abi.Fields
	}{
		{"/both/x", none, -1, "both", abi.FieldFormat},
		{"/both/x", none, 0xaa, "both", abi.FieldFormat},
		{"/both/x", none, 0xab, "default", 0},
		{"/both/x", elf, -1, "both", abi.FieldDigest},
		{"/both/x", script, -1, "default", 0},
		{"/both/x", elf, 0xaa, "both", 0},
		{"/both/x", elf, 0xab, "default", 0},
		{"/but/x", none, -1, "but-both", abi.FieldFormat},
		{"/but/x", none, 0xab, "but-both", 0},
		{"/but/x", none, 0xaa, "but-both", abi.FieldFormat},
		{"/but/x", elf, -1, "but-both", 0},
		{"/but/x", script, -1, "but-both", abi.FieldDigest},
		{"/but/x", script, 0xaa, "default", 0},
		{"/apart/x", none, -1, "apart", abi.FieldFormat},
		{"/apart/x", script, -1, "default", 0},
		{"/apart/x", other, -1, "apart", abi.FieldDigest},
		{"/apart/x", none, 0xab, "default", 0},
		{"/files/x", none, -1, "files", 0},
		{"/two/x", none, -1, "first", abi.FieldFormat},
		{"/two/x", elf, -1, "second", abi.FieldDigest},
		{"/two/x", script, -1, "first", 0},
		{"/elsewhere", none, -1, "default", 0},
	} {
		t.Run(fmt.Sprintf("%s %s %x", tc.path, tc.format, tc.digest), func(t *testing.T) {
			r := hashed(tc.path, byte(tc.digest))
			if r.Format = tc.format; tc.digest < 0 {
				r.Flags &^= abi.FlagDigest
			}
			for name, rs := range map[string]*RuleSet{"compared": rs, "filed": filed(rs)} {
				d := rs.Decide(r)
				if got := rs.RuleID(d.Rule); got != tc.rule || d.Needs() != tc.needs {
					t.Errorf("%s: got rule %s, needs %v; want %s, %v", name, got, d.Needs().Names(), tc.rule, tc.needs.Names())
				}
			}
			directory(r)
			if d := rs.Decide(r); d.Needs() != 0 || rs.RuleID(d.Rule) != "but-both" && rs.RuleID(d.Rule) != "default" {
				t.Errorf("a directory: rule %s, needs %v", rs.RuleID(d.Rule), d.Needs().Names())
			}
		})
	}
}

func TestExplainFormat(t *testing.T) {
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {format: [script, elf]}, not: {object: {format: [other, script, elf], path: /x}}, verdict: deny}]")
	r := hashed("/y", 0)
	for _, tc := range []struct {
		path   string
		format abi.Format
		want   string
	}{
		{"/y", abi.FormatOther, "object.format other matches none of elf, script"},
		{"/y", abi.FormatUnknown, "so far: object.format is not known"},
		{"/y", abi.FormatELF, ""},
		{"/x", abi.FormatELF, `its not block holds: object.path "/x" matches literal /x and object.format elf matches elf, script, other`},
		{"/x", abi.FormatUnknown, `its not block holds: object.path "/x" matches literal /x and object.format, which is not known, matches elf, script, other`},
	} {
		r.PathLen, r.Format = uint32(copy(r.PathBuf[:], tc.path)), tc.format
		if got := rs.Explain(r).Steps[0].Reason; got != tc.want {
			t.Errorf("%s %s:\ngot  %s\nwant %s", tc.path, tc.format, got, tc.want)
		}
	}
	if got := rs.Explain(directory(r)).Steps[0].Reason; got != "the object is no file with a content" {
		t.Errorf("a directory: %s", got)
	}
	if got := strings.Join(FieldNames(rs.Consulted(abi.EventExec)), " "); got != "path format" {
		t.Errorf("consulted %s, want path and format", got)
	}
}

func TestLintFormats(t *testing.T) {
	for _, tc := range []struct {
		wide, narrow string
		never        bool
	}{
		{"format: [elf, script]", "format: elf", true},
		{"format: elf", "format: elf", true},
		{"format: elf", "format: [elf, script]", false},
		{"format: elf", "sha256: " + sumA, false},
		{"format: elf", "format: elf, sha256: " + sumA, true},
		{"format: elf, sha256: " + sumA, "format: elf", false},
		{"format: elf, sha256: [" + sumA + ", " + sumOne + "]", "format: elf, sha256: " + sumA, true},
		{"format: script, sha256: " + sumA, "format: elf, sha256: " + sumA, false},
		{"path: /x", "path: /x, format: elf", true},
		{"format: [elf, script, other]", "path: /x", false},
	} {
		rs := mustLoad(t, head+fmt.Sprintf("rules:\n- {id: wide, events: [exec], object: {%s}, verdict: deny}\n- {id: narrow, events: [exec], object: {%s}, verdict: deny}\n", tc.wide, tc.narrow))
		if got := len(rs.Lint(nil)) > 0; got != tc.never {
			t.Errorf("%s before %s: never decides: %t, want %t", tc.wide, tc.narrow, got, tc.never)
		}
	}
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {format: elf}, not: {object: {format: [script, elf]}}, verdict: deny}]")
	if got := rs.Lint(nil); len(got) != 1 || !strings.Contains(got[0].Message, "not block") {
		t.Errorf("a rule that its not block leaves nothing of: %v", got)
	}
}

func TestFingerprintOfFormats(t *testing.T) {
	seen := map[uint64]string{}
	for _, text := range []string{
		"subject: {uid: 0}",
		"subject: {uid: 0}, object: {format: elf}",
		"subject: {uid: 0}, object: {format: script}",
		"subject: {uid: 0}, object: {format: [elf, script]}",
		"subject: {uid: 0}, not: {object: {format: elf}}",
		"subject: {uid: 0}, object: {sha256: " + sumA + "}",
		"subject: {uid: 0}, object: {format: elf, sha256: " + sumA + "}",
	} {
		got := printOf(t, head+"rules:\n- {id: a, events: [exec], "+text+", verdict: deny}\n- {id: b, events: [exec], subject: {uid: 0}, verdict: deny}\n")
		if before, ok := seen[got]; ok {
			t.Errorf("the same fingerprint of\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
	const rule = head + "rules: [{id: a, events: [exec], object: {format: %s}, verdict: deny}]"
	if printOf(t, fmt.Sprintf(rule, "[elf, script]")) != printOf(t, fmt.Sprintf(rule, "[script, elf, elf]")) {
		t.Error("the order of the formats counts")
	}
}

// A set of digests is sorted and kept once, whatever stands beside it.
func TestContentsAreShared(t *testing.T) {
	const set = "version: 1\ndefault: allow\nscope: {paths: [/srv]}\nsets:\n  sums: [" + sumA + ", " + sumOne + "]\nrules:\n"
	rs := mustLoad(t, set+"- {id: a, events: [exec], object: {sha256: '@sums'}, verdict: deny}\n"+
		"- {id: b, events: [exec], object: {sha256: '@sums', format: elf}, verdict: deny}\n"+
		"- {id: c, events: [exec], object: {sha256: '@sums', format: elf}, not: {object: {sha256: '@sums', format: elf}}, verdict: deny}\n"+
		"- {id: d, events: [exec], not: {subject: {uid: 1}}, verdict: deny}\n")
	if n := len(rs.contents); n != 4 { // the empty one, of a, of b and c, of the not block
		t.Errorf("%d entries, want 4", n)
	}
	for _, m := range rs.contents[1:] {
		if &m.sums[0] != &rs.contents[1].sums[0] {
			t.Error("the digests are there twice")
		}
	}
	if n := rs.nots[rs.all[3].not].content; n != 0 {
		t.Errorf("a not block without a content has number %d", n)
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const head = "version: 1\ndefault: allow\nscope: {paths: [/srv]}\n"

// problemsOf returns the problems of a text, which must have some.
func problemsOf(t *testing.T, v version, src string) Problems {
	t.Helper()
	f, err := parseWith(v, "f.yaml", []byte(src))
	var ps Problems
	if !errors.As(err, &ps) || len(ps) == 0 {
		t.Fatalf("Parse: got error %v (%T), want Problems", err, err)
	}
	if f != nil {
		t.Errorf("Parse: got a File along with problems")
	}
	for _, p := range ps {
		if p.File != "f.yaml" || p.Line < 1 || p.Column < 1 || p.Message == "" || p.Hint == "" {
			t.Errorf("problem without its file, place, message or hint: %+v", p)
		}
		if strings.ContainsAny(p.Error(), "\n\x1b\x00") {
			t.Errorf("problem with raw control characters: %q", p.Error())
		}
	}
	return ps
}

// TestEventTable has the catalogue, and nothing else, refuse what an event has not.
func TestEventTable(t *testing.T) {
	tests := []struct{ name, rule, want string }{
		{"nothing to match on", "events: [uring_sqpoll]", ""},
		{"subject", "events: [uring_sqpoll]\n    subject: {uid: 0}", ""},
		{"object", "events: [uring_sqpoll]\n    object: {path: /a}", "7:13: the event uring_sqpoll has no object to match"},
		{"access", "events: [capable]\n    access: read", "7:13: the event capable has no access to match"},
		{"in a not block", "events: [socket]\n    not: {object: {path: /a}}", "7:19: the event socket has no object to match"},
		{"one of two events", "events: [exec, socket]\n    object: {path: /a}", "7:13: the event socket has no object to match"},
		{"access of open and exec", "events: [open, exec]\n    access: read", "7:13: the event exec has no access to match"},
		{"access of open", "events: [open]\n    access: read", ""},
		{"detail", "events: [rename]\n    detail: /a", ""},
		{"detail of another", "events: [rename, unlink]\n    detail: /a", "7:13: the event unlink has no detail to match"},
		{"an argument", "events: [connect, bind]\n    args: {port: 443}", ""},
		{"an argument of the other", "events: [connect, unlink]\n    args: {port: 443}", "7:12: the event unlink has no argument port"},
		{"no argument at all", "events: [connect]\n    args: {prot: 443, zzz: 1}", "7:12: the event connect has no argument prot"},
		{"one name, two things", "events: [chmod, ptrace]\n    args: {mode: 1}", "7:12: the argument mode is another thing for ptrace than for the other events of the rule"},
		{"one name, one thing", "events: [create, chmod, mkdir]\n    args: {mode: {any: 0o6000}}", ""},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			src := head + "rules:\n  - id: a\n    " + tc.rule + "\n    verdict: deny\n"
			if tc.want == "" {
				f, err := Parse("f.yaml", []byte(src))
				if err != nil || f.Len() != 1 {
					t.Fatalf("got error %v, want none", err)
				}
				return
			}
			ps := problemsOf(t, current, src)
			if got := fmt.Sprintf("%d:%d: %s", ps[0].Line, ps[0].Column, ps[0].Message); got != tc.want || ps[0].Rule != "a" {
				t.Errorf("got %v\nwant %s", ps, tc.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	if want := (version{fileBytes: 256 << 20, rulesMax: 1_000_000}); want.fileBytes != current.fileBytes || want.rulesMax != current.rulesMax {
		t.Errorf("got limits %+v, want %+v", current, want)
	}
	small := current // the largest takes too long
	small.fileBytes, small.rulesMax = 32<<10, 100
	oneRule := func(s string) string {
		return head + "rules:\n  - {id: a, events: [open], verdict: deny, " + s + "}\n"
	}
	long := "/" + strings.Repeat("x", MaxPatternBytes-1)
	many := func(n int) string {
		var b strings.Builder
		b.WriteString(head + "rules:\n")
		for i := range n {
			fmt.Fprintf(&b, "- {id: r%d, events: [open], verdict: deny}\n", i)
		}
		return b.String()
	}
	tests := []struct{ name, src, want string }{
		{"longest literal", oneRule("object: {path: " + long + "}"), ""},
		{"literal too long", oneRule("object: {path: " + long + "x}"), "has 4096 bytes, at most 4095"},
		{"longest prefix", oneRule("object: {path: {prefix: " + long + "}}"), ""},
		{"longest glob", oneRule(`object: {path: "` + long[:4094] + `*"}`), ""},
		{"glob too long", oneRule(`object: {path: "` + long + `*"}`), "has 4096 bytes"},
		{"most states", oneRule(`object: {path: "/*` + strings.Repeat("?", globStates-1) + `"}`), ""},
		{"too many states", oneRule(`object: {path: "/*` + strings.Repeat("?", globStates) + `"}`), "too complicated: 1025 steps"},
		{"longest message", oneRule("message: " + strings.Repeat("m", MaxMessageBytes)), ""},
		{"message too long", oneRule("message: " + strings.Repeat("m", MaxMessageBytes+1)), "has 1025 bytes, at most 1024"},
		{"longest id", head + "rules: [{id: " + strings.Repeat("i", 64) + ", events: [open], verdict: deny}]", ""},
		{"id too long", head + "rules: [{id: " + strings.Repeat("i", 65) + ", events: [open], verdict: deny}]", "is not valid"},
		{"largest file", head + strings.Repeat("#", small.fileBytes-len(head)), ""},
		{"file too large", head + strings.Repeat("#", small.fileBytes-len(head)+1), "has more than 32768 bytes"},
		{"most rules", many(small.rulesMax), ""},
		{"too many rules", many(small.rulesMax + 1), "has 101 rules, at most 100"},
		{"shortest deadline", oneRule("deadline: 1ms"), ""},
		{"deadline too short", oneRule("deadline: 999us"), "out of range"},
		{"longest deadline", oneRule("deadline: 1m"), ""},
		{"deadline too long", oneRule("deadline: 60.001s"), "out of range"},
		{"largest errno", head + "on_fail: {deny: 133}", ""},
		{"errno too large", head + "on_fail: {deny: 134}", "out of range"},
		{"nested flow", head + "rules: " + strings.Repeat("[", 12000), "not YAML: "},
		{"nested blocks", head + "rules:\n" + strings.Repeat("- ", 12000), "not YAML: "},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if tc.want == "" {
				f, err := parseWith(small, "f.yaml", []byte(tc.src))
				if err == nil {
					_, err = Compile(f, Options{})
				}
				if err != nil {
					t.Fatalf("got error %.300v, want none", err)
				}
				return
			}
			ps := problemsOf(t, small, tc.src)
			if len(ps) != 1 || !strings.Contains(ps[0].Message, tc.want) {
				t.Errorf("got %.300v\nwant one problem with %q", ps, tc.want)
			}
		})
	}
}

func TestBytesThatYAMLCannotHold(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"not UTF-8", "version: 1\nkey: é\xff\n", "f.yaml:2:7: the byte 0xff is not UTF-8; "},
		{"control character", "version: \x01", "f.yaml:1:10: the control character 0x01 "},
		{"NUL", "\x00", "f.yaml:1:1: the control character 0x00 "},
		{"UTF-16", "\xff\xfev\x00", "f.yaml:1:1: the byte 0xff is not UTF-8; "},
		{"carriage return alone", "a: \"b\rc", "f.yaml:1:1: not YAML"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			if got := problemsOf(t, current, tc.src).Error(); !strings.HasPrefix(got, tc.want) {
				t.Errorf("got %q\nwant prefix %q", got, tc.want)
			}
		})
	}
}

// TestEveryLineCanBreak damages each line of a good file in turn: the one
// problem must be on that line, also where the library names another.
func TestEveryLineCanBreak(t *testing.T) {
	lines := strings.SplitAfter(contractFile, "\n")
	for i := 1; i < len(lines)-1; i++ { // a first line broken like this is a good key
		broken := strings.Join(lines[:i], "") + "    \t]: {\n" + strings.Join(lines[i:], "")
		ps := problemsOf(t, current, broken)
		if len(ps) != 1 || ps[0].Line != i+1 {
			t.Errorf("broken line %d: got %v", i+1, ps)
		}
	}
}

func TestReportIsBounded(t *testing.T) {
	src := head + "rules:\n" + strings.Repeat("- {}\n", 1000)
	ps := problemsOf(t, current, src)
	if want := "2000 more problems are not shown"; len(ps) != maxProblems+1 || ps[maxProblems].Message != want {
		t.Errorf("got %d problems, the last %q; want %d, the last %q", len(ps), ps[len(ps)-1].Message, maxProblems+1, want)
	}
}

func TestProblemsAreErrors(t *testing.T) {
	_, err := Load("f.yaml", nil, Options{})
	var p Problem
	if !errors.As(fmt.Errorf("loading: %w", err), &p) || p.Line != 1 {
		t.Errorf("errors.As: got %+v from %v", p, err)
	}
}

func TestNoResolver(t *testing.T) {
	_, err := Load("f.yaml", []byte(contractFile), Options{})
	var ps Problems
	if !errors.As(err, &ps) || len(ps) != 1 || ps[0].Rule != "no-shells" || ps[0].Line != 11 || !strings.Contains(ps[0].Message, "cannot be looked up") {
		t.Errorf("got %v, want one problem on line 11", err)
	}
}

func TestPathsAreBytes(t *testing.T) {
	long := "/" + strings.Repeat("y", MaxPatternBytes-1)
	for _, path := range []string{"/a\nb", "/\xff\xfe", "/a\tb\x1b[31m", long, "/é", "/\xc3", "/[*]", `/a\b`, "/ "} {
		t.Run(fmt.Sprintf("%.20q", path), func(t *testing.T) {
			src := head + "rules: [{id: a, events: [open], verdict: deny, object: {path: {literal: !!binary " +
				base64.StdEncoding.EncodeToString([]byte(path)) + "}}}]"
			rs := mustLoad(t, src)
			if d := rs.Decide(request(abi.EventOpen, path, "", nil)); d.Rule != 0 {
				t.Errorf("the path itself: got rule %d, want 0", d.Rule)
			}
			other := []byte(path)
			other[len(other)-1] ^= 1
			if d := rs.Decide(request(abi.EventOpen, string(other), "", nil)); d.Rule != -1 {
				t.Errorf("another last byte: got rule %d, want the default", d.Rule)
			}
			if d := rs.Decide(request(abi.EventOpen, path[:len(path)-1], "", nil)); d.Rule != -1 {
				t.Errorf("one byte less: got rule %d, want the default", d.Rule)
			}
		})
	}
}

func TestErrnoNames(t *testing.T) {
	for n := uint16(1); n <= maxDenyErrno; n++ {
		name := ErrnoName(n)
		if n == 41 || n == 58 { // second names only
			continue
		}
		if got := errnoByName(name); got != n {
			t.Errorf("errnoByName(ErrnoName(%d)) = %d (%s)", n, got, name)
		}
	}
	if got := (Verdict{Deny, 13}).String(); got != "deny EACCES" {
		t.Errorf("got %q, want deny EACCES", got)
	}
}

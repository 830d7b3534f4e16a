// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var (
	sealA   = "sha256:" + strings.Repeat("0A", 32)
	sealOne = "sha256:" + strings.Repeat("01", 32)
	seal512 = "sha512:" + strings.Repeat("0a", 64)
)

// sealed is an exec of a file with that fs-verity digest; "" when nobody has looked.
func sealed(t testing.TB, path, verity string) *abi.Request {
	t.Helper()
	r := request(abi.EventExec, path, "", func(r *abi.Request) { r.Mode = 0o100755 })
	if err := SetVerity(r, verity); err != nil {
		t.Fatal(err)
	}
	return r
}

// A digest is another one by another hash, any is every one of them, and none is no digest.
func TestDecideByVerity(t *testing.T) {
	f := func(list, is string, want, needs bool) {
		t.Helper()
		rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {fsverity: "+list+"}, verdict: deny}, {id: b, events: [exec], object: {path: /x}, not: {object: {fsverity: "+list+"}}, verdict: deny}]")
		for _, rs := range []*RuleSet{rs, filed(rs)} {
			d := rs.Decide(sealed(t, "/x", is))
			if got := rs.RuleID(d.Rule) == "a"; got != want || (d.Needs() == abi.FieldVerity) != needs {
				t.Errorf("%s of %q: rule %s, needs %v; want a: %t, needs it: %t", list, is, rs.RuleID(d.Rule), d.Needs().Names(), want, needs)
			}
		}
	}
	lower := strings.ToLower(sealA)
	f("'"+sealA+"'", lower, true, false)
	f("'"+sealA+"'", sealOne, false, false)
	f("'"+sealA+"'", seal512, false, false)
	f("'"+sealA+"'", "none", false, false)
	f("'"+sealA+"'", "", true, true)
	f("["+sealOne+", "+seal512+", "+sealOne+"]", seal512, true, false)
	f("["+sealOne+", none]", "none", true, false)
	f("["+sealOne+", none]", lower, false, false)
	f("any", sealOne, true, false)
	f("any", seal512, true, false)
	f("any", "none", false, false)
	f("any", "", true, true)
	f("none", "none", true, false)
	f("none", sealOne, false, false)
	f("[any, none]", "", true, false) // nobody has to look
}

// What is no file has no digest, and is not one that has none.
func TestVerityOfADirectory(t *testing.T) {
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {fsverity: [any, none]}, verdict: deny}]")
	x := rs.Explain(directory(sealed(t, "/x", "none")))
	if got := x.Steps[0].Reason; x.Decision.Rule != -1 || got != "the object is no file with a content" {
		t.Errorf("rule %d: %s", x.Decision.Rule, got)
	}
}

// In a rule with all three the one that takes all of the file comes last.
func TestVerityBeforeDigest(t *testing.T) {
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {sha256: "+sumA+", fsverity: any, format: elf}, verdict: deny}]")
	r := sealed(t, "/x", "")
	for i, f := range []abi.Fields{abi.FieldFormat, abi.FieldVerity, abi.FieldDigest, 0} {
		if got := rs.Decide(r).Needs(); got != f {
			t.Errorf("step %d needs %v, want %v", i, got.Names(), f.Names())
		}
		r.Learn(&abi.Content{Known: f, Format: abi.FormatELF, Verity: abi.Verity{Alg: abi.VeritySHA256}, Digest: [32]byte{}})
	}
	if err := SetVerity(r, "none"); err != nil {
		t.Fatal(err)
	}
	if r.ForgetContent(abi.FieldDigest); rs.Decide(r).Rule != -1 {
		t.Error("a file is hashed that has no fs-verity digest")
	}
}

// Of thousands of rules, each by its digest, each is found, and what is not looked at yet is decided by
// the other facts as far as they go.
func TestVeritiesAreFiled(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	seal := func(i int) string {
		switch i % 5 {
		case 0:
			return fmt.Sprintf("sha512:%x", sha512.Sum512(fmt.Append(nil, i)))
		case 1:
			return "none"
		}
		return fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Append(nil, i)))
	}
	const n = 2000
	for i := range n {
		fmt.Fprintf(&b, "- {id: r%d, events: [exec], object: {fsverity: [%s]}, subject: {uid: %d}, verdict: deny}\n", i, seal(i), i%10)
	}
	b.WriteString("- {id: rest, events: [exec], object: {fsverity: any}, subject: {uid: 11}, verdict: audit}\n")
	rs := mustLoad(t, b.String())
	if root := rs.lists[abi.EventExec].root; len(root.contents) != 1 || len(root.rest) > 1 {
		t.Errorf("%d indexes of contents, %d rules are not filed", len(root.contents), len(root.rest))
	}
	f := rs.parsed()
	for range 500 {
		r := sealed(t, "/x", seal(rng.IntN(n+10)))
		r.UID = uint32(rng.IntN(12))
		if got, want := rs.Decide(r).Rule, reference(f, r); got != want {
			t.Fatalf("%v, uid %d: rule %d, want %d", r.Verity, r.UID, got, want)
		}
		if uid := r.UID; uid < 10 {
			r.ForgetContent(abi.FieldVerity)
			if got := rs.Decide(r); got.Rule != int32(uid) || got.Needs() != abi.FieldVerity {
				t.Fatalf("uid %d: rule %d, needs %v; want %d, fsverity", uid, got.Rule, got.Needs().Names(), uid)
			}
		}
	}
}

func TestSetVerity(t *testing.T) {
	for _, text := range []string{"any", "sha256", strings.Repeat("0a", 32), "NONE"} {
		r := sealed(t, "/x", "")
		if err := SetVerity(r, text); err == nil || !strings.Contains(err.Error(), "fsverity digest FILE") || r.Content() != 0 {
			t.Errorf("%s: error %v, and it has %v", text, err, r.Content().Names())
		}
	}
}

func TestLintVerity(t *testing.T) {
	f := func(wide, narrow string, never bool) {
		t.Helper()
		rs := mustLoad(t, head+fmt.Sprintf("rules:\n- {id: wide, events: [exec], object: {%s}, verdict: deny}\n- {id: narrow, events: [exec], object: {%s}, verdict: deny}\n", wide, narrow))
		if got := len(rs.Lint(nil)) > 0; got != never {
			t.Errorf("%s before %s: never decides: %t, want %t", wide, narrow, got, never)
		}
	}
	f("fsverity: any", "fsverity: "+sealOne, true)
	f("fsverity: any", "fsverity: any", true)
	f("fsverity: any", "fsverity: none", false)
	f("fsverity: any", "path: /x", false)
	f("fsverity: [any, none]", "fsverity: none, path: /x", true)
	f("fsverity: [any, none]", "path: /x", false) // a directory
	f("fsverity: none", "fsverity: [none, "+sealOne+"]", false)
	f("fsverity: "+sealOne, "fsverity: any", false)
	f("fsverity: ["+sealOne+", "+seal512+"]", "fsverity: "+seal512, true)
	f("fsverity: "+seal512, "fsverity: "+sealA, false)
	f("path: /x", "path: /x, fsverity: any", true)
	f("fsverity: any", "sha256: "+sumA, false)
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {fsverity: "+sealOne+"}, not: {object: {fsverity: any}}, verdict: deny}]")
	if got := rs.Lint(nil); len(got) != 1 || !strings.Contains(got[0].Message, "not block") {
		t.Errorf("a rule that its not block leaves nothing of: %v", got)
	}
}

// A path that users can mount something at is made up for by a digest, but not by any: whoever may
// write to a file can give it one.
func TestForgeryOfVerity(t *testing.T) {
	for list, forged := range map[string]bool{sealOne: false, "[" + sealOne + ", " + seal512 + "]": false, "any": true, "none": true, "[none, " + sealOne + "]": true} {
		notes := noted(t, "default: deny\nscope: {paths: [/srv]}", "{id: a, events: [exec], object: {path: /srv/x, fsverity: "+list+"}, verdict: allow}")
		if got := strings.Contains(notes, "can mount another file"); got != forged {
			t.Errorf("%s: a note on forgery: %t, want %t: %s", list, got, forged, notes)
		}
	}
}

func TestFingerprintOfVerity(t *testing.T) {
	seen := map[uint64]string{}
	for _, text := range []string{
		"subject: {uid: 0}",
		"subject: {uid: 0}, object: {fsverity: any}",
		"subject: {uid: 0}, object: {fsverity: none}",
		"subject: {uid: 0}, object: {fsverity: [any, none]}",
		"subject: {uid: 0}, object: {fsverity: " + sealOne + "}",
		"subject: {uid: 0}, object: {fsverity: " + seal512 + "}",
		"subject: {uid: 0}, object: {sha256: '" + strings.Repeat("01", 32) + "'}",
		"subject: {uid: 0}, not: {object: {fsverity: any}}",
	} {
		got := printOf(t, head+"rules:\n- {id: a, events: [exec], "+text+", verdict: deny}\n- {id: b, events: [exec], subject: {uid: 0}, verdict: deny}\n")
		if before, ok := seen[got]; ok {
			t.Errorf("the same fingerprint of\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
	const rule = head + "rules: [{id: a, events: [exec], object: {fsverity: '%s'}, verdict: deny}]"
	if printOf(t, fmt.Sprintf(rule, sealA)) != printOf(t, fmt.Sprintf(rule, strings.ToLower(sealA))) {
		t.Error("the case of the digits counts")
	}
}

// A set of digests is sorted and kept once, whatever stands beside it.
func TestVeritiesAreShared(t *testing.T) {
	rs := mustLoad(t, head+"sets:\n  seals: ['"+sealA+"', "+sealOne+"]\nrules:\n"+
		"- {id: a, events: [exec], object: {fsverity: '@seals'}, verdict: deny}\n"+
		"- {id: b, events: [exec], object: {fsverity: '@seals', format: elf}, not: {object: {fsverity: '@seals'}}, verdict: deny}\n"+
		"- {id: c, events: [exec], object: {fsverity: '@seals'}, subject: {uid: 1}, verdict: deny}\n")
	if n := len(rs.contents); n != 4 { // the empty one, of a and c, of b, of its not block
		t.Errorf("%d entries, want 4", n)
	}
	for _, m := range rs.contents[1:] {
		if m.verity != rs.contents[1].verity || len(m.verity.sums) != 2 {
			t.Error("the digests are there twice, or not all")
		}
	}
}

func TestDecideByVerityDoesNotAllocate(t *testing.T) {
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {fsverity: ["+sealOne+", none, "+seal512+"], format: elf}, verdict: deny}]")
	for _, verity := range []string{"", "none", sealOne, sealA} {
		r := sealed(t, "/x", verity)
		r.Format = abi.FormatELF
		if n := testing.AllocsPerRun(100, func() { rs.Decide(r) }); n != 0 {
			t.Errorf("Decide of %q: %v allocations, want 0", verity, n)
		}
	}
}

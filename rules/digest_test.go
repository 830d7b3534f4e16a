// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const (
	sumOne = "1111111111111111111111111111111111111111111111111111111111111111" // a number, to YAML
	sumA   = "AAAAaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)

// hashed builds a request whose content has the digest of that one byte, repeated.
func hashed(path string, b byte) *abi.Request {
	return request(abi.EventExec, path, "/bin/sh", func(r *abi.Request) {
		r.Mode, r.Flags = 0o100755, abi.FlagDigest
		for i := range r.Digest {
			r.Digest[i] = b
		}
	})
}

func unhashed(path string) *abi.Request {
	r := hashed(path, 0)
	r.Flags &^= abi.FlagDigest
	return r
}

func directory(r *abi.Request) *abi.Request {
	r.Mode = 0o40755
	return r
}

func TestDecideByDigest(t *testing.T) {
	const allowList = "version: 1\ndefault: deny\nscope: {paths: [/]}\nrules:\n" +
		"- {id: root, events: [exec], subject: {uid: 7}, verdict: allow}\n" +
		"- {id: known, events: [exec], object: {path: {prefix: /srv}, sha256: [" + sumOne + ", " + sumA + "]}, verdict: allow}\n"
	const but = head + "rules:\n" +
		"- {id: but, events: [exec], not: {object: {sha256: " + sumA + "}, subject: {uid: 0}}, verdict: deny}\n"
	uid := func(r *abi.Request, uid uint32) *abi.Request { r.UID = uid; return r }
	for _, tc := range []struct {
		name  string
		src   string
		r     *abi.Request
		rule  string
		needs bool
	}{
		{"listed", allowList, hashed("/srv/x", 0x11), "known", false},
		{"listed in upper case", allowList, hashed("/srv/x", 0xaa), "known", false},
		{"not listed", allowList, hashed("/srv/x", 0xab), "default", false},
		{"not looked at yet", allowList, unhashed("/srv/x"), "known", true},
		{"need not be looked at, by the path", allowList, unhashed("/usr/x"), "default", false},
		{"need not be looked at, by an earlier rule", allowList, uid(unhashed("/srv/x"), 7), "root", false},
		{"a directory", allowList, directory(unhashed("/srv/x")), "default", false},
		{"no object", allowList, request(abi.EventExec, "", "/bin/sh", func(r *abi.Request) { r.Flags = abi.FlagNoObject }), "default", false},
		{"but this one", but, hashed("/x", 0xaa), "default", false},
		{"but another", but, hashed("/x", 0xab), "but", false},
		{"but not looked at yet", but, unhashed("/x"), "but", true},
		{"but not of this user", but, uid(unhashed("/x"), 1), "but", false},
		{"but a directory", but, directory(unhashed("/x")), "but", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rs := mustLoad(t, tc.src)
			d := rs.Decide(tc.r)
			if got := rs.RuleID(d.Rule); got != tc.rule || (d.Needs() == abi.FieldDigest) != tc.needs {
				t.Errorf("got rule %s, needs %v; want %s, needs it: %t", got, FieldNames(d.Needs()), tc.rule, tc.needs)
			}
			if x := rs.Explain(tc.r); x.Decision != d {
				t.Errorf("Explain: %+v, Decide: %+v", x.Decision, d)
			}
		})
	}
}

func TestExplainDigest(t *testing.T) {
	rs := mustLoad(t, head+"rules: [{id: a, events: [exec], object: {sha256: "+sumA+"}, verdict: deny}]")
	for want, r := range map[string]*abi.Request{
		"object.sha256 " + strings.Repeat("ab", 32) + " does not match " + strings.ToLower(sumA): hashed("/x", 0xab),
		"the object is no file with a content":                                                   directory(hashed("/x", 0xaa)),
	} {
		if got := rs.Explain(r).Steps[0].Reason; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if got := strings.Join(FieldNames(rs.Consulted(abi.EventExec)), " "); got != "sha256" {
		t.Errorf("consulted %s, want sha256", got)
	}
}

// TestDigestsAreFiled: of thousands of rules, each by its content, each is found, and what
// is not looked at yet is decided by the other facts as far as they go.
func TestDigestsAreFiled(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	sum := func(i int) [32]byte { return sha256.Sum256(fmt.Append(nil, i)) }
	const n = 2000
	for i := range n {
		fmt.Fprintf(&b, "- {id: r%d, events: [exec], object: {sha256: %x}, subject: {uid: %d}, verdict: deny}\n", i, sum(i), i%10)
	}
	rs := mustLoad(t, b.String())
	f := rs.parsed()
	for range 500 {
		i, uid := rng.IntN(n+10), rng.IntN(12)
		r := hashed("/x", 0)
		r.Digest, r.UID = sum(i), uint32(uid)
		if got, want := rs.Decide(r).Rule, reference(f, r); got != want {
			t.Fatalf("content %d, uid %d: rule %d, want %d", i, uid, got, want)
		}
		r.Flags = 0
		want := Decision{Rule: -1}
		if uid < 10 {
			want = Decision{Rule: int32(uid), Verdict: Verdict{Action: NeedsDigest}}
		}
		if got := rs.Decide(r); got.Rule != want.Rule || got.Needs() != want.Needs() {
			t.Fatalf("uid %d: rule %d, needs %v; want %d, %v", uid, got.Rule, FieldNames(got.Needs()), want.Rule, FieldNames(want.Needs()))
		}
	}
}

func TestLintDigests(t *testing.T) {
	const rule = "- {id: %s, events: [exec], object: {sha256: [%s]}, verdict: deny}\n"
	for want, second := range map[string]string{"2": sumA, "": sumOne} {
		rs := mustLoad(t, head+"rules:\n"+fmt.Sprintf(rule, "wide", sumA+", "+strings.Repeat("b", 64))+fmt.Sprintf(rule, "narrow", second))
		var got string
		for _, p := range rs.Lint(nil) {
			got += strings.TrimPrefix(p.Rule, "narrow") + "2"
		}
		if got != want {
			t.Errorf("narrow %s: got %q, want %q", second, got, want)
		}
	}
}

func TestFingerprintOfDigests(t *testing.T) {
	seen := map[uint64]string{}
	for _, text := range []string{
		"subject: {uid: 0}",
		"subject: {uid: 0}, object: {sha256: " + sumA + "}",
		"subject: {uid: 0}, object: {sha256: " + sumOne + "}",
		"subject: {uid: 0}, object: {sha256: [" + sumOne + ", " + sumA + "]}",
		"subject: {uid: 0}, not: {object: {sha256: " + sumA + "}}",
	} {
		got := printOf(t, head+"rules:\n- {id: a, events: [exec], "+text+", verdict: deny}\n- {id: b, events: [exec], subject: {uid: 0}, verdict: deny}\n")
		if before, ok := seen[got]; ok {
			t.Errorf("the same fingerprint of\n%s\nand\n%s", before, text)
		}
		seen[got] = text
	}
	upper, lower := head+"rules: [{id: a, events: [exec], object: {sha256: "+sumA+"}, verdict: deny}]", ""
	lower = strings.Replace(upper, sumA, strings.ToLower(sumA), 1)
	if printOf(t, upper) != printOf(t, lower) {
		t.Error("the case of the digits counts")
	}
}

// BenchmarkDigests decides by one list of 100,000 digests.
func BenchmarkDigests(b *testing.B) {
	var list strings.Builder
	const n = 100_000
	sums := make([][32]byte, n)
	for i := range n {
		sums[i] = sha256.Sum256(fmt.Append(nil, i))
		fmt.Fprintf(&list, "    - %x\n", sums[i])
	}
	rs := mustLoad(b, "version: 1\ndefault: deny\nscope: {paths: [/]}\nrules:\n- id: known\n  events: [exec]\n  verdict: allow\n  object:\n    sha256:\n"+list.String())
	r := hashed("/x", 0)
	for i := 0; b.Loop(); i++ {
		r.Digest = sums[i%n]
		if rs.Decide(r).Rule != 0 {
			b.Fatal("a digest of the list is not found")
		}
	}
}

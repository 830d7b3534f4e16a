// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// contents are what the content of an object can be in the property tests: each of the few values
// that the generators know of a fact, with each of the others.
var contents = func() (all []abi.Content) {
	c := abi.Content{Known: abi.ContentFields}
	for _, c.Digest = range [][32]byte{{0}, {1}, {2}, {1, 31: 1}, {3}} {
		for _, c.Format = range []abi.Format{abi.FormatELF, abi.FormatScript, abi.FormatOther} {
			for _, c.Verity = range []abi.Verity{{Alg: abi.VerityNone}, {Alg: abi.VeritySHA256}, {Alg: abi.VeritySHA512}} {
				for _, c.Scan = range []abi.Scan{abi.ScanClean, abi.ScanInfected} {
					all = append(all, c)
				}
			}
		}
	}
	return all
}()

// agree reports whether two contents have the same value of each of the facts.
func agree(a, b *abi.Content, facts abi.Fields) bool {
	return (facts&abi.FieldDigest == 0 || a.Digest == b.Digest) && (facts&abi.FieldFormat == 0 || a.Format == b.Format) &&
		(facts&abi.FieldVerity == 0 || a.Verity == b.Verity) && (facts&abi.FieldScan == 0 || a.Scan == b.Scan)
}

// contentOf is the content of a request that has all of it.
func contentOf(r *abi.Request) abi.Content {
	return abi.Content{Known: abi.ContentFields, Digest: r.Digest, Format: r.Format, Verity: r.Verity, Scan: r.Scan, Signature: r.Signature}
}

// The tables of the facts of the content, of the conditions on them and of the actions that ask
// for them say the same, and each fact has its values in the tests.
func TestContentFacts(t *testing.T) {
	var all abi.Fields
	for i, f := range contentFacts {
		d := Decision{Verdict: Verdict{Action: NeedsFormat + Action(i)}}
		if d.Needs() != f.field || d.Verdict.String() != "undecided" {
			t.Errorf("%s: the action %d is %v, and needs %v", f.key, d.Verdict.Action, d.Verdict, d.Needs().Names())
		}
		if all&f.field != 0 || f.key != "object."+f.field.Names()[0] {
			t.Errorf("%s is the key of %v, or there twice", f.key, f.field.Names())
		}
		all |= f.field
		if !slices.ContainsFunc(contents, func(c abi.Content) bool {
			return agree(&c, &contents[0], abi.ContentFields&^f.field) && !agree(&c, &contents[0], f.field)
		}) {
			t.Errorf("%s has one value in the tests", f.key)
		}
	}
	if all != abi.ContentFields || int(conditionCount-condFormat) != len(contentFacts) {
		t.Errorf("%v and %d conditions for %v", all.Names(), conditionCount-condFormat, abi.ContentFields.Names())
	}
	if a := NeedsFormat + Action(len(contentFacts)); a.undecided() || a.String() != "unknown" {
		t.Errorf("the action behind the last is %v", a)
	}
	r := request(abi.EventOpen, "/a", "", nil)
	r.Learn(&contents[len(contents)-1])
	if c := contentOf(r); r.Content() != abi.ContentFields || c != contents[len(contents)-1] {
		t.Errorf("a request that has learnt %+v has %v: %+v", contents[len(contents)-1], r.Content().Names(), c)
	}
}

// checkNeeds compares what is decided without a look at the content, or at a part of it, with
// what every content makes of it. It returns how often each fact is needed.
func checkNeeds(t *rapid.T, sets []*RuleSet, f *File, r *abi.Request) map[abi.Fields]int {
	with, want := *r, map[abi.Content]int32{}
	for _, c := range contents {
		with.Learn(&c)
		want[c] = reference(f, &with)
	}
	is := contentOf(r)
	lacking := []abi.Fields{abi.ContentFields}
	for _, f := range contentFacts {
		lacking = append(lacking, f.field)
		if rapid.Bool().Draw(t, f.key+" is known") {
			lacking[0] &^= f.field
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "nothing is known") == 0 || lacking[0] == 0 {
		lacking[0] = abi.ContentFields
	}
	needed := map[abi.Fields]int{}
	for _, lacks := range lacking {
		var outcomes = map[abi.Content]int32{} // of all contents that it may have
		for c, i := range want {
			if agree(&c, &is, abi.ContentFields&^lacks) {
				outcomes[c] = i
			}
		}
		for _, rs := range sets {
			unknown := *r
			unknown.ForgetContent(lacks)
			got := rs.Decide(&unknown)
			need := got.Needs()
			if need&^lacks != 0 {
				t.Fatalf("Decide: rule %d, needs %v of a request that lacks %v\n%s", got.Rule, need.Names(), lacks.Names(), rs.Source())
			}
			// While a fact is needed the rule may match, and no rule before it can.
			others := 0
			for c, i := range outcomes {
				if i == got.Rule {
					continue
				}
				if others++; need == 0 || got.Rule < 0 || i >= 0 && i < got.Rule {
					t.Fatalf("Decide without %v: rule %d, needs %v; with %+v the reference says %d\n%s", lacks.Names(), got.Rule, need.Names(), c, i, rs.Source())
				}
			}
			if need != 0 && (others == 0 || !matters(f, outcomes, got.Rule, need)) {
				t.Fatalf("Decide without %v: rule %d, needs %v, which changes nothing\n%s", lacks.Names(), got.Rule, need.Names(), rs.Source())
			}
			// Each fact is needed once, and then the decision is what it is with all of them.
			for turn, d := 0, got; ; turn, d = turn+1, rs.Decide(&unknown) {
				if d.Needs() == 0 {
					if d.Rule != want[is] {
						t.Fatalf("Decide with what was needed: rule %d\n%s", d.Rule, rs.Source())
					}
					break
				}
				if turn == len(contentFacts) {
					t.Fatalf("Decide needs %v again\n%s", d.Needs().Names(), rs.Source())
				}
				found := is
				found.Known = d.Needs()
				unknown.Learn(&found)
			}
			needed[need]++
		}
	}
	return needed
}

// matters reports whether there is a content of which the fact alone decides whether the rule
// matches. It is not asked of rules that are about the content in both blocks, which may ask for
// what cannot be.
func matters(f *File, outcomes map[abi.Content]int32, rule int32, fact abi.Fields) bool {
	if not := f.rules[rule].not; not != nil && not.contentFields() != 0 {
		return true
	}
	for a, i := range outcomes {
		for b, j := range outcomes {
			if (i == rule) != (j == rule) && agree(&a, &b, abi.ContentFields&^fact) {
				return true
			}
		}
	}
	return false
}

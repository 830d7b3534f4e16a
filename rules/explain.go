// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Explanation is a Decision with its reasons.
type Explanation struct {
	Event abi.Event
	// Steps are the rules in the order of the file, up to and with the decisive
	// one; all of them when the default decided.
	Steps []Step
	// LeftOut is how many rules were considered that are not among Steps, because they are
	// too many: none of them matches.
	LeftOut  int
	Decision Decision
	// Rule is the id of the decisive rule, or "default".
	Rule string
	// Line is where the decisive rule begins, 0 for the default.
	Line int
	Note Note
	// Consulted are the facts that rules about this event look at.
	Consulted abi.Fields
	// Needs are those of them that the outcome depends on and that are not known of the request: what
	// Decision.Needs says, and the subject's credentials, without which a worker decides nothing but what is Sure.
	Needs abi.Fields
}

// Step is one rule that was considered.
type Step struct {
	Rule    string
	Line    int
	Matched bool
	// Reason says in words why the rule does not match, why one that allows an open in part
	// refuses this one, or what is not known of one that matches so far; else empty. Bytes of the
	// request are quoted in it.
	Reason string
}

// Explain decides like Decide and says why. It allocates and belongs nowhere
// near the hot path.
func (rs *RuleSet) Explain(r *abi.Request) Explanation {
	x := Explanation{Event: r.Event, Decision: rs.Decide(r), Consulted: rs.Consulted(r.Event)}
	x.Needs = x.Decision.Needs()
	if !r.Credentials.Known && !rs.Sure(r) {
		x.Needs |= x.Consulted & abi.FieldCredentials
	}
	considered := int32(len(rs.all))
	if x.Decision.Rule >= 0 {
		considered = x.Decision.Rule + 1
	}
	shown := rs.shown(r.Event, considered)
	for _, i := range shown {
		x.Steps = append(x.Steps, rs.step(i, r))
	}
	x.LeftOut = int(considered) - len(shown)
	x.Rule, x.Line, x.Note = rs.RuleID(x.Decision.Rule), rs.Line(x.Decision.Rule), rs.Note(x.Decision.Rule)
	return x
}

// mostSteps is how many rules are explained: nobody reads more.
const mostSteps = 1000

// shown returns which of the first rules are explained: all, or, when they are too many, the
// last ones about the event.
func (rs *RuleSet) shown(e abi.Event, considered int32) []int32 {
	if considered <= mostSteps {
		all := make([]int32, considered)
		for i := range all {
			all[i] = int32(i)
		}
		return all
	}
	var about []int32
	if e < abi.EventCount {
		about = rs.lists[e].rules
		n, _ := slices.BinarySearch(about, considered)
		about = about[max(0, n-mostSteps):n]
	}
	return about
}

// step says how rule i fares.
func (rs *RuleSet) step(i int32, r *abi.Request) Step {
	m := &rs.all[i]
	s := Step{Rule: rs.RuleID(i), Line: rs.Line(i)}
	if !rs.about[i].events.has(r.Event) {
		s.Reason = "it is not about the event " + r.Event.String()
	} else if why, off := rs.off[i]; off {
		s.Reason = why
	} else if m.once && rs.spent(i) {
		s.Reason = "it has decided once"
	} else if c := rs.fails(&m.match, r); c != none {
		s.Reason = rs.why(&m.match, c, r)
	} else if m.not != 0 && rs.fails(&rs.nots[m.not], r) == none {
		s.Reason = "its not block holds: " + rs.held(&rs.nots[m.not], r)
	} else if m.when != 0 && !rs.whens[m.when].holds(r) {
		s.Reason = rs.whens[m.when].explain(r)
	} else {
		s.Matched = true
		if need := rs.needs(m, r); need != none {
			s.Reason = "so far: " + contentFacts[need-condFormat].key + " is not known"
		} else if only := rs.thens[m.then].only; only != 0 && r.Access&^only != 0 {
			s.Reason = fmt.Sprintf("it allows %v and no more", AccessNames(only))
		}
	}
	return s
}

// String returns the explanation as lines of text.
func (x Explanation) String() string {
	var b strings.Builder
	if x.LeftOut > 0 {
		fmt.Fprintf(&b, "  %d more rules do not match\n", x.LeftOut)
	}
	for _, s := range x.Steps {
		if s.Matched {
			fmt.Fprintf(&b, "  line %d: rule %s matches\n", s.Line, s.Rule)
			if s.Reason != "" {
				fmt.Fprintf(&b, "    %s\n", s.Reason)
			}
		} else {
			fmt.Fprintf(&b, "  line %d: rule %s does not match: %s\n", s.Line, s.Rule, s.Reason)
		}
	}
	if x.Decision.Rule < 0 {
		fmt.Fprintf(&b, "  %v by the default\n", x.Decision.Verdict)
	} else {
		fmt.Fprintf(&b, "  %v by rule %s on line %d\n", x.Decision.Verdict, x.Rule, x.Line)
	}
	for _, n := range [...]struct{ what, text string }{{"message", x.Note.Message}, {"owner", x.Note.Owner}, {"reason", x.Note.Reason}, {"ticket", x.Note.Ticket}} {
		if n.text != "" {
			fmt.Fprintf(&b, "  %s: %s\n", n.what, quote(n.text))
		}
	}
	fmt.Fprintf(&b, "  consulted: %s\n", strings.Join(FieldNames(x.Consulted), ", "))
	return b.String()
}

// FieldNames returns the names of the facts in f, "nothing" alone when it is
// empty.
func FieldNames(f abi.Fields) []string {
	if out := f.Names(); out != nil {
		return out
	}
	return []string{"nothing"}
}

// AccessNames returns the names of the bits of a that rules can name.
func AccessNames(a abi.Access) []string {
	var out []string
	for _, n := range accessNames {
		if a&n.bit != 0 {
			out = append(out, n.name)
		}
	}
	return out
}

// ParseAccess returns the bit of a name that rules can write, false for none.
func ParseAccess(name string) (abi.Access, bool) {
	for _, n := range accessNames {
		if n.name == name {
			return n.bit, true
		}
	}
	return 0, false
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Explanation is a Decision with its reasons.
type Explanation struct {
	Event abi.Event
	// Steps are the rules in the order of the file, up to and with the decisive
	// one; all of them when the default decided.
	Steps    []Step
	Decision Decision
	// Rule is the id of the decisive rule, or "default".
	Rule string
	// Line is where the decisive rule begins, 0 for the default.
	Line    int
	Message string
	// Consulted are the facts that rules about this event look at.
	Consulted abi.Fields
}

// Step is one rule that was considered.
type Step struct {
	Rule    string
	Line    int
	Matched bool
	// Reason says in words why the rule does not match; empty when it does. Bytes
	// of the request are quoted in it.
	Reason string
}

// Explain decides like Decide and says why. It allocates and belongs nowhere
// near the hot path.
func (rs *RuleSet) Explain(r *abi.Request) Explanation {
	x := Explanation{Event: r.Event, Decision: rs.fallback, Consulted: rs.Consulted(r.Event)}
	for i := range rs.all {
		m, ast := &rs.all[i], &rs.file.rules[i]
		s := Step{Rule: ast.id, Line: ast.line}
		if !ast.events.has(r.Event) {
			s.Reason = "it is not about the event " + r.Event.String()
		} else if c := m.match.fails(r); c != none {
			s.Reason = ast.match.why(c, r)
		} else if m.not != nil && m.not.fails(r) == none {
			s.Reason = "its not block holds: " + ast.not.held(r)
		} else {
			s.Matched = true
		}
		x.Steps = append(x.Steps, s)
		if s.Matched {
			x.Decision = rs.decision(int32(i), r)
			break
		}
	}
	x.Rule, x.Line, x.Message = rs.RuleID(x.Decision.Rule), rs.Line(x.Decision.Rule), rs.Message(x.Decision.Rule)
	return x
}

// String returns the explanation as lines of text.
func (x Explanation) String() string {
	var b strings.Builder
	for _, s := range x.Steps {
		if s.Matched {
			fmt.Fprintf(&b, "  line %d: rule %s matches\n", s.Line, s.Rule)
		} else {
			fmt.Fprintf(&b, "  line %d: rule %s does not match: %s\n", s.Line, s.Rule, s.Reason)
		}
	}
	if x.Decision.Rule < 0 {
		fmt.Fprintf(&b, "  %v by the default\n", x.Decision.Verdict)
	} else {
		fmt.Fprintf(&b, "  %v by rule %s on line %d\n", x.Decision.Verdict, x.Rule, x.Line)
	}
	if x.Message != "" {
		fmt.Fprintf(&b, "  message: %s\n", quote(x.Message))
	}
	fmt.Fprintf(&b, "  consulted: %s\n", strings.Join(FieldNames(x.Consulted), ", "))
	return b.String()
}

var fieldNames = [...]struct {
	field abi.Fields
	name  string
}{{abi.FieldPath, "path"}, {abi.FieldExe, "exe"}, {abi.FieldUID, "uid"}, {abi.FieldGID, "gid"},
	{abi.FieldCgroup, "cgroup"}, {abi.FieldAccess, "access"}, {abi.FieldDetail, "detail"}, {abi.FieldArgs, "args"}, {abi.FieldDigest, "sha256"}}

// FieldNames returns the names of the facts in f, "nothing" alone when it is
// empty.
func FieldNames(f abi.Fields) []string {
	var out []string
	for _, n := range fieldNames {
		if f&n.field != 0 {
			out = append(out, n.name)
		}
	}
	if out == nil {
		out = []string{"nothing"}
	}
	return out
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

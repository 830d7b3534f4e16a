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
			x.Decision = m.decision
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
	{abi.FieldCgroup, "cgroup"}, {abi.FieldAccess, "access"}}

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

// why says why condition c of the block does not hold.
func (b *block) why(c condition, r *abi.Request) string {
	switch c {
	case condPath:
		if r.Flags&abi.FlagPathTruncated != 0 {
			return "object.path is not known"
		}
	case condExe:
		if r.Flags&abi.FlagNoExe != 0 {
			return "subject.exe is not known"
		}
	}
	subject, wanted := b.words(c, r)
	if len(wanted) == 1 {
		return subject + " does not match " + wanted[0]
	}
	return subject + " matches none of " + shorten(wanted)
}

// held says what all conditions of the block were, in the order they are tried.
func (b *block) held(r *abi.Request) string {
	var parts []string
	for c := condAccess; c <= condExe; c++ {
		if subject, wanted := b.words(c, r); len(wanted) > 0 {
			parts = append(parts, subject+" matches "+shorten(wanted))
		}
	}
	return strings.Join(parts, " and ")
}

// words returns what condition c looks at, with its value, and what it wants;
// nothing when the block does not give it.
func (b *block) words(c condition, r *abi.Request) (subject string, wanted []string) {
	ids := func(rs []idRange) {
		for _, v := range rs {
			if v.lo == v.hi {
				wanted = append(wanted, fmt.Sprint(v.lo))
			} else {
				wanted = append(wanted, fmt.Sprintf("%d-%d", v.lo, v.hi))
			}
		}
	}
	pats := func(ps []pattern) {
		for _, p := range ps {
			wanted = append(wanted, p.String())
		}
	}
	switch c {
	case condAccess:
		subject, wanted = fmt.Sprintf("access %v", AccessNames(r.Access)), AccessNames(b.access)
	case condUID:
		subject = fmt.Sprintf("subject.uid %d", r.UID)
		ids(b.uid)
	case condGID:
		subject = fmt.Sprintf("subject.gid %d", r.GID)
		ids(b.gid)
	case condEUID:
		subject = fmt.Sprintf("subject.euid %d", r.EUID)
		ids(b.euid)
	case condEGID:
		subject = fmt.Sprintf("subject.egid %d", r.EGID)
		ids(b.egid)
	case condCgroup:
		subject = "subject.cgroup"
		for _, p := range b.cgroup {
			wanted = append(wanted, bare(p.path))
		}
	case condPath:
		subject = "object.path " + quote(string(r.PathBuf[:min(r.PathLen, abi.PathBytes)]))
		pats(b.path)
	case condExe:
		subject = "subject.exe " + quote(string(r.ExeBuf[:min(r.ExeLen, abi.PathBytes)]))
		pats(b.exe)
	}
	return subject, wanted
}

// shorten joins the first few of a list.
func shorten(words []string) string {
	const shown = 8
	if len(words) > shown {
		return strings.Join(words[:shown], ", ") + fmt.Sprintf(" and %d more", len(words)-shown)
	}
	return strings.Join(words, ", ")
}

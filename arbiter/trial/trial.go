// SPDX-License-Identifier: Apache-2.0

// Package trial tries a rule set out on requests that another one has decided: it decides
// each recorded request again and says what would come out otherwise. A recording and the
// live event stream go through the same code, and that ends in RuleSet.Decide, which the
// workers call: there is no second evaluator.
//
// Nothing is guessed. A decision that hangs on a fact which the record does not have is
// counted as one that cannot be told. A failure verdict is no decision, and counted apart.
package trial

import (
	"slices"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Outcome is what comes of a request by one rule set.
type Outcome struct {
	Verdict rules.Verdict
	// Rule is the deciding rule's id, "default" when none matched. Empty: the request
	// would not be asked about at all, and goes on.
	Rule string
	Line int // of the rule in its file, 0 for the default
	// Reason is why this would be a failure verdict, ReasonNone for a decision.
	Reason abi.Reason
}

// Kind says what of an outcome is another.
type Kind uint8

// The kinds. The flips are what whoever asks would notice, Errno also that he is killed or not; Rule is no flip: it decides the
// same by another rule, or with an audit more or less.
const (
	AllowToDeny Kind = iota
	DenyToAllow
	Errno
	Rule
	KindCount
)

// String returns the kind as reports and metrics write it.
func (k Kind) String() string {
	return [...]string{"allow_to_deny", "deny_to_allow", "errno", "rule"}[k]
}

// Flip reports whether whoever asks would notice.
func (k Kind) Flip() bool { return k < Rule }

// compare returns what of after is another than in before; false when nothing is.
func compare(before, after *Outcome) (Kind, bool) {
	was, is := before.Verdict, after.Verdict
	switch {
	case !was.Action.Refuses() && is.Action.Refuses():
		return AllowToDeny, true
	case was.Action.Refuses() && !is.Action.Refuses():
		return DenyToAllow, true
	case was.Errno != is.Errno:
		return Errno, true
	case was.Action == rules.Deny && is.Action == rules.Kill && before.Rule == after.Rule:
		was.Action = rules.Kill // what is recorded where nobody could be killed
	case was.Action != is.Action && was.Action.Refuses():
		return Errno, true
	}
	return Rule, was.Action != is.Action || before.Rule != after.Rule || before.Reason != after.Reason
}

// Candidate is a rule set that is tried out.
type Candidate struct {
	rules  *rules.RuleSet
	events map[abi.Event]bool // that it asks about
	scoped bool               // its scope has to be looked at
	facts  abi.Fields         // of those in a record, what can be believed
	req    abi.Request

	first      time.Time // of the records: a lifespan begins there
	from, next time.Time // rules is as it is between, next zero for ever
}

// Options says what is known of the recording.
type Options struct {
	// SameScope: scope and mute are those under which the requests were asked, so that
	// each is in scope for the candidate, too.
	SameScope bool
	// Cgroups: the ids of cgroups that the rule set was compiled with are those of the
	// recording. Else what hangs on a cgroup cannot be told.
	Cgroups bool
}

// New returns a candidate. It is for one goroutine.
func New(rs *rules.RuleSet, o Options) *Candidate {
	c := &Candidate{rules: rs.Whole(), events: map[abi.Event]bool{}, scoped: !o.SameScope, facts: abi.AllFields}
	for _, e := range rs.Events() {
		c.events[e] = true
	}
	if !o.Cgroups {
		c.facts &^= abi.FieldCgroup
	}
	return c
}

// Rules returns the rule set.
func (c *Candidate) Rules() *rules.RuleSet { return c.rules }

// Decide decides the recorded request. missing names facts that the decision hangs on and
// the record does not have; then the outcome means nothing.
func (c *Candidate) Decide(e *arbiter.Event) (o Outcome, missing abi.Fields) {
	r := &c.req
	c.at(e.Time)
	e.Question(r)
	var known bool
	if r.Trees, known = c.rules.MarksOf(e.InTrees, e.NotInTrees); !known {
		r.Have &^= abi.FieldTree
	}
	r.Have &= c.facts
	if e.Fingerprint != c.rules.Fingerprint() && !c.asks(r) {
		return Outcome{Verdict: rules.Verdict{Action: rules.Allow}}, 0
	}
	want := c.rules.Consulted(r.Event)
	if (r.Flags&abi.FlagPathTruncated != 0 && want&abi.FieldPath != 0 || r.Flags&abi.FlagDetailTruncated != 0 && want&abi.FieldDetail != 0) && !c.rules.Sure(r) {
		// As the worker does: no rule can be trusted on a text that is cut.
		return Outcome{Verdict: c.rules.Default().OnFail, Reason: abi.ReasonFactsTruncated}, 0
	}
	d, missing := c.rules.DecideKnown(r)
	if missing != 0 {
		return Outcome{}, missing
	}
	if d.Once {
		c.rules.Take(d.Rule)
	}
	return Outcome{Verdict: d.Verdict, Rule: c.rules.RuleID(d.Rule), Line: c.rules.Line(d.Rule)}, 0
}

// at makes the rules those whose time it is.
func (c *Candidate) at(t time.Time) {
	if !c.rules.Whole().Timed() || !c.from.IsZero() && !t.Before(c.from) && (c.next.IsZero() || t.Before(c.next)) {
		return
	}
	if c.first.IsZero() {
		c.first = t
	}
	c.rules, c.next = c.rules.At(rules.Moment{Now: t, PushedAt: c.first})
	c.from = t
}

// asks reports whether the kernel side would ask about the request, as far as names can
// tell: see rules.RuleSet.Asks. What names cannot tell counts as asked about.
func (c *Candidate) asks(r *abi.Request) bool {
	if !c.events[r.Event] {
		return false
	}
	const names = abi.FieldPath | abi.FieldDetail | abi.FieldExe | abi.FieldUID
	if !c.scoped || r.Have&names != names || r.Flags&(abi.FlagPathTruncated|abi.FlagDetailTruncated) != 0 {
		return true
	}
	return c.rules.Asks(&rules.Access{Event: r.Event, Object: string(r.Path()), Detail: string(r.Detail()), Exe: string(r.Exe()), UID: r.UID})
}

// ByNames returns the keys of scope and mute of which names tell nothing: what they name
// counts as in the scope, and as not muted.
func (c *Candidate) ByNames() []string {
	if !c.scoped {
		return nil
	}
	scope, mute := c.rules.Scope(), c.rules.Mute()
	unknown := []string{"cgroups", "mounts", "process_trees"}
	var out []string
	for _, name := range unknown {
		if slices.Contains(scope.Named(), name) || slices.Contains(mute.Named(), name) {
			out = append(out, name)
		}
	}
	return out
}

// recorded returns what came of a request by its record.
func recorded(e *arbiter.Event) Outcome {
	o := Outcome{Rule: e.Rule, Line: e.Line}
	switch e.Verdict {
	case rules.Deny.String():
		o.Verdict = rules.Verdict{Action: rules.Deny, Errno: e.Errno}
	case rules.Kill.String():
		o.Verdict = rules.Verdict{Action: rules.Kill, Errno: e.Errno}
	case rules.Audit.String():
		o.Verdict.Action = rules.Audit
	}
	return o
}

// Missing names facts as reports do; none is what somebody who is asked would have answered.
func Missing(f abi.Fields) string {
	if f == 0 {
		return "an answer"
	}
	return strings.Join(f.Names(), ", ")
}

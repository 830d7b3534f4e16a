// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Action is the kind of a verdict.
type Action uint8

// The actions. Audit allows and records; a refusal is always recorded. Kill refuses, and kills
// who asked.
const (
	Allow Action = iota
	Deny
	Audit
	Kill
	// Ask holds the request until somebody has answered. Verdict.Errno is of the refusal when
	// nobody does, 0 to allow then.
	Ask
	// NeedsFormat and what follows, one for each of contentFacts, are the actions of no rule: see
	// Decision.Needs. They are no field of their own, for a decision is as large as what is
	// returned in registers.
	NeedsFormat
	NeedsVerity
	NeedsDigest
	NeedsScan
)

// Refuses reports whether the system call fails.
func (a Action) Refuses() bool { return a == Deny || a == Kill }

// undecided reports whether a fact of the content is needed.
func (a Action) undecided() bool { return a >= NeedsFormat && int(a-NeedsFormat) < len(contentFacts) }

// Verdict is what a rule says.
type Verdict struct {
	Action Action
	// Errno is what a denied system call returns; 0 unless Action is Deny, Kill or Ask.
	Errno uint16
}

// Decision is the outcome of RuleSet.Decide: a value, nothing allocated.
type Decision struct {
	Verdict Verdict
	// Rule is the index of the deciding rule, -1 when the default decided.
	Rule int32
	// Deadline is how long the request may have waited when it is answered;
	// beyond it OnFail is the verdict.
	Deadline time.Duration
	OnFail   Verdict
	// Once: the rule may decide once, see RuleSet.Take. Nobody may keep the decision.
	Once bool
}

// Needs returns the fact that the request lacks and that its outcome depends on, 0 when the
// decision is made. It can depend on another one when this one is known.
func (d Decision) Needs() abi.Fields {
	if a := d.Verdict.Action; a.undecided() {
		return contentFacts[a-NeedsFormat].field
	}
	return 0
}

// Note is what a rule says to people.
type Note struct {
	Message string // for who is refused
	// For those who look after the rules: whose it is, why it is there, and where that was
	// talked about.
	Owner, Reason, Ticket string
}

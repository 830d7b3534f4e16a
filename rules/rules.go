// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Action is the kind of a verdict.
type Action uint8

// The actions. Audit allows and records; a refusal is always recorded.
const (
	Allow Action = iota
	Deny
	Audit
	// Ask holds the request until somebody has answered. Verdict.Errno is of the refusal when
	// nobody does, 0 to allow then.
	Ask
	// Undecided is the action of no rule: see Decision.Needs. It is no field of its own,
	// for a decision is as large as what is returned in registers.
	Undecided
)

// Verdict is what a rule says.
type Verdict struct {
	Action Action
	// Errno is what a denied system call returns; 0 unless Action is Deny or Ask.
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
}

// Needs returns the fact that the request lacks and that its outcome depends on, 0 when the
// decision is made.
func (d Decision) Needs() abi.Fields {
	if d.Verdict.Action == Undecided {
		return abi.FieldDigest
	}
	return 0
}

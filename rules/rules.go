// SPDX-License-Identifier: Apache-2.0

package rules

import "time"

// Action is the kind of a verdict.
type Action uint8

// The actions. Audit allows and records; a refusal is always recorded.
const (
	Allow Action = iota
	Deny
	Audit
)

// Verdict is what a rule says.
type Verdict struct {
	Action Action
	// Errno is what a denied system call returns; 0 unless Action is Deny.
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

// Scope says what the rule set is about. A request is arbitrated when it is in
// every dimension that the scope names; a scope that names none is an error.
type Scope struct {
	// Paths are the roots of directory trees, absolute and clean: the object
	// must be in one of them.
	Paths []string
	// Cgroups are cgroup v2 paths below the mount point: the subject must be in
	// one of them or below.
	Cgroups []string
}

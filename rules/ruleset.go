// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Epoch returns the number of this rule set in the order of pushes.
func (rs *RuleSet) Epoch() uint64 { return rs.epoch }

// WithEpoch returns the same rule set with another epoch.
func (rs *RuleSet) WithEpoch(epoch uint64) *RuleSet {
	c := *rs
	c.epoch = epoch
	return &c
}

// Fingerprint returns a hash of what the rule set says; formatting, comments and
// the order of fields do not change it. It tells rule sets apart for people and
// logs and is no protection against somebody who makes two of them collide.
func (rs *RuleSet) Fingerprint() uint64 { return rs.fingerprint }

// Scope returns what the rule set is about. Its slices must not be modified.
func (rs *RuleSet) Scope() Scope { return rs.file.scope }

// Source returns the text that was parsed; it must not be modified.
func (rs *RuleSet) Source() []byte { return rs.file.source }

// Len returns the number of rules.
func (rs *RuleSet) Len() int { return len(rs.file.rules) }

// Default returns the decision that is made when no rule matches: Rule is -1.
func (rs *RuleSet) Default() Decision { return rs.fallback }

// RuleID returns the id of rule i as in Decision.Rule: "default" for -1 and for
// a number that is none of a rule.
func (rs *RuleSet) RuleID(i int32) string {
	if r := rs.rule(i); r != nil {
		return r.id
	}
	return "default"
}

// Message returns the message of rule i, "" when it has none and for the default.
func (rs *RuleSet) Message(i int32) string {
	if r := rs.rule(i); r != nil {
		return r.message
	}
	return ""
}

// Line returns the line on which rule i begins, 0 for the default.
func (rs *RuleSet) Line(i int32) int {
	if r := rs.rule(i); r != nil {
		return r.line
	}
	return 0
}

func (rs *RuleSet) rule(i int32) *rule {
	if i < 0 || int(i) >= len(rs.file.rules) {
		return nil
	}
	return &rs.file.rules[i]
}

// Events returns the events that are to be asked about: those that some rule is about,
// those that the file lists, and open and exec when the default is not allow.
func (rs *RuleSet) Events() []abi.Event {
	set := rs.file.listed
	if rs.fallback.Verdict.Action != Allow {
		set |= setOf(abi.EventOpen, abi.EventExec)
	}
	for e := range rs.lists {
		if len(rs.lists[e].rules) > 0 {
			set.add(abi.Event(e))
		}
	}
	return set.list()
}

// Listed returns the events that the file lists for the default.
func (rs *RuleSet) Listed() []abi.Event { return rs.file.listed.list() }

// MaxDeadline returns the longest deadline of any rule and the default.
func (rs *RuleSet) MaxDeadline() time.Duration {
	longest := rs.fallback.Deadline
	for i := range rs.all {
		longest = max(longest, rs.all[i].decision.Deadline)
	}
	return longest
}

// Consulted returns the facts that Decide may look at in a request of this
// event; the others need not be filled in, and two requests that agree in these
// get the same decision. FieldUID stands for UID and EUID together, FieldGID for
// GID and EGID, FieldPath, FieldDetail and FieldExe for the bytes and their flags.
func (rs *RuleSet) Consulted(e abi.Event) abi.Fields {
	if e >= abi.EventCount {
		return 0
	}
	return rs.lists[e].consulted
}

// ConsultedArgs returns which of the event's numbers FieldArgs stands for in Consulted:
// bit i is Request.Arg[i].
func (rs *RuleSet) ConsultedArgs(e abi.Event) uint8 {
	if e >= abi.EventCount {
		return 0
	}
	return rs.lists[e].args
}

// SPDX-License-Identifier: Apache-2.0

package rules

import "time"

// OnFail returns the failure verdict of rule i as in Decision.Rule: for -1, and for
// a number that is none of a rule, that of the file.
func (rs *RuleSet) OnFail(i int32) Verdict {
	if r := rs.rule(i); r != nil {
		return r.onFail
	}
	return rs.file.onFail
}

// WrittenDeadline returns the deadline that is written in rule i, or for -1 in the
// file outside of rules; false when none is, so that it is inherited.
func (rs *RuleSet) WrittenDeadline(i int32) (time.Duration, bool) {
	if r := rs.rule(i); r != nil {
		return r.deadline, r.deadlineWritten
	}
	return rs.file.deadline, rs.file.deadlineWritten
}

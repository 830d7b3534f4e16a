// SPDX-License-Identifier: Apache-2.0

package rules

// Nothing returns the rule set of a daemon that was given none: it has no scope, so
// nothing is arbitrated, and it allows. Its epoch is 0, which no pushed set has.
func Nothing() *RuleSet {
	f := &File{name: "nothing", deadline: DefaultDeadline}
	return &RuleSet{file: f, fingerprint: fingerprint(f),
		fallback: Decision{Verdict: f.def, Rule: -1, Deadline: f.deadline, OnFail: f.onFail}}
}

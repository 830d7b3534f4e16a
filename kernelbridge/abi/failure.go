// SPDX-License-Identifier: Apache-2.0

package abi

// Failure is a verdict that a kernel side gave by itself: a failure verdict, or, with
// ReasonNone, that of a rule that it knows.
type Failure struct {
	Request // the facts as far as they were known
	Reason  Reason
	Verdict Verdict
	Rule    int32  // with ReasonNone: index in the rule set, -1 for the default
	Epoch   uint64 // with ReasonNone: of the policy that has the rule
}

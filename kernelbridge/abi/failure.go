// SPDX-License-Identifier: Apache-2.0

package abi

// Failure is a failure verdict that a kernel side gave by itself.
type Failure struct {
	Request // the facts as far as they were known
	Reason  Reason
	Verdict Verdict
}

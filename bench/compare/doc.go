// SPDX-License-Identifier: Apache-2.0

// Package compare says of two runs of package bench, on one machine, which scenarios have changed.
//
// The values that are compared are those of the rounds, by the test that benchstat uses: Mann and
// Whitney's U, which assumes nothing of how they are spread, and medians with their confidence interval.
// It sees what moves from round to round. What moves from run to run, such as where memory came to lie,
// it does not: a change that matters is one that is still there when both sides are measured again.
package compare

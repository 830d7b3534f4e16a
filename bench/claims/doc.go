// SPDX-License-Identifier: Apache-2.0

// Package claims holds what the documents say of performance against the figures of a run.
//
//	Read      bench/claims.yaml -> File
//	Verify    a File and reports -> holds, does not hold or cannot tell, for each claim
//	Unlisted  the figures in a document that no claim has
//	Gone      the quotes that their document no longer has
//
// A document has sentences, a run has figures; what one has to do with the other is written down once, in
// the file. A house test sees to it that every figure of the documents in it is there.
package claims

// SPDX-License-Identifier: Apache-2.0

// Package signature says who has signed a rule file, and which of two signed files is
// the later one. Files of keys and signatures are those of minisign, so operators sign
// with the tool that they know.
//
// A signature covers every byte of the rule file, and a trusted comment. Among the words
// of the comment is serial:N, a number that its author counts up: a file that was signed
// once stays signed for ever, and without the number whoever kept it could put it in
// force again.
//
// Keys are those that are trusted; Verify compares a rule file with its signature. Every
// refusal is an *Error that says why, and what to do. What comes out of a comment are
// bytes of others: who prints them quotes them.
package signature

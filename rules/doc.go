// SPDX-License-Identifier: Apache-2.0

// Package rules turns a rule file into an immutable RuleSet and decides by it.
//
// The way of a rule file:
//
//	Parse    text to a checked File; every problem of the text at once, with its
//	         position and what to write instead
//	Compile  File to RuleSet: patterns compiled, cgroup paths resolved to ids, facts
//	         that are consulted summed up, and the rules of each event filed under
//	         what they demand (classify.go)
//	Decide   one request in, one Decision out: the first rule that matches wins,
//	         nothing is allocated, nothing can fail. It looks at the rules that the
//	         request finds (index.go, indextext.go), however many there are
//
// Load does the first two. Explain is Decide with its reasons written down, off
// the hot path: both call the same match functions.
//
// What there is to match on in an event is said by kernelbridge/catalogue; this package
// adds the names that numbers have (argname.go) and which texts are paths.
//
// Everything that comes from outside is bytes: paths are compared as bytes and
// quoted when they are printed. docs/policy.md is the reference of the file
// format for those who write rules.
package rules

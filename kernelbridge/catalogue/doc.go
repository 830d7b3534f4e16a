// SPDX-License-Identifier: Apache-2.0

// Package catalogue says what can be asked about: the events, the facts that each
// carries, and the LSM hooks that ask. It is one table that the attach list, the rule
// language, the documents and arbiterctl are made from, and a leaf: it knows the ABI
// and nothing else.
package catalogue

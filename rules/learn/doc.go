// SPDX-License-Identifier: Apache-2.0

// Package learn proposes rules from requests that were observed: the smallest set that
// allows all of them and, where it allows more, says how much more.
//
// Observed counts the requests. Propose folds them into rules, each a product of lists
// (events, paths, programs, ids, numbers), by putting together what differs in one list
// alone: so the rules allow what was observed and nothing else. Only then paths are
// generalised, tightest pattern first, each one only if it pays: it must replace several
// paths, and what it would allow besides, counted on the disk as it is now, must stay
// within a budget. The price of each is in the proposal, in its comments and as data.
//
// Nothing here reads a file or asks a daemon: the disk is an interface.
package learn

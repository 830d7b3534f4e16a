// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Notes names what a rule set relies on or pays for, and what may well be meant, in the
// order of the file: names that a user can forge where he may make a mount namespace, and
// rules that cost more than others. What several rules have in common is said at the first
// of them, so a large set has few notes.
func (rs *RuleSet) Notes() Problems {
	l := rs.linter()
	l.forgeable()
	l.unkept()
	l.recorded()
	l.perValue()
	l.behind()
	l.unfiled()
	l.costly()
	return l.found.sorted()
}

// note says something of several rules, in rising order, at the first of them.
func (l *linter) note(rules []int32, message, hint string) {
	if more := len(rules) - 1; more > 0 {
		var names []string
		for _, i := range rules[1:min(len(rules), 1+notedRules)] {
			names = append(names, l.named(i))
		}
		message += "; likewise " + several(names, more)
	}
	l.add(int(rules[0]), message, hint)
}

// notedRules is how many of the others are named.
const notedRules = 3

// several joins names, of more than are given.
func several(names []string, all int) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += n
	}
	if more := all - len(names); more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// about returns the rules that decide some of the events, for which which holds.
func (l *linter) about(events []abi.Event, which func(i int32, e abi.Event) bool) (rules []int32) {
	for _, e := range events {
		for _, i := range l.rs.lists[e].rules {
			if which(i, e) {
				rules = append(rules, i)
			}
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules)
}

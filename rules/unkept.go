// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Unkept returns what of the rule set cannot be kept where some events are not asked
// about: a problem for each rule and event. cannot says of these events why. If there are some
// the text is parsed for their places, which takes time and memory where it is large.
func (rs *RuleSet) Unkept(cannot map[abi.Event]string) Problems {
	if !slices.ContainsFunc(rs.Events(), func(e abi.Event) bool { _, ok := cannot[e]; return ok }) {
		return nil
	}
	var ps Problems
	f := rs.parsed()
	for i := range f.rules {
		r := &f.rules[i]
		for _, e := range r.events.list() {
			if why, ok := cannot[e]; ok {
				ps = append(ps, rs.unkept(r.eventsAt, r.id, e, why))
			}
		}
	}
	for _, e := range rs.listed.list() {
		if why, ok := cannot[e]; ok {
			ps = append(ps, rs.unkept(rs.listedAt, "", e, why))
		}
	}
	return ps.sorted()
}

func (rs *RuleSet) unkept(at pos, rule string, e abi.Event, why string) Problem {
	return Problem{File: rs.name, Line: at.line, Column: at.column, Rule: rule,
		Message: fmt.Sprintf("the event %s cannot be asked about here: %s", e, why),
		Hint:    fmt.Sprintf("take %s out of events, or push with --best-effort: it goes on unasked then", e)}
}

// UnkeptWarnings says the same as Unkept in a line for each event, for those who put
// the rule set in force all the same.
func (rs *RuleSet) UnkeptWarnings(cannot map[abi.Event]string) []string {
	var out []string
	for _, e := range rs.Events() {
		why, ok := cannot[e]
		if !ok {
			continue
		}
		var of []string
		for i := range rs.about {
			if rs.about[i].events.has(e) {
				of = append(of, rs.RuleID(int32(i)))
			}
		}
		where := "the default is not applied to it"
		if of != nil {
			where = "rules without effect on it: " + shorten(of)
		}
		out = append(out, fmt.Sprintf("the event %s is not asked about: %s; %s", e, strings.TrimSuffix(why, "."), where))
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// shadow says which earlier rules match whatever rule i does, one for each event that it
// is about; "" when one is not found.
func (l *linter) shadow(i int32) (message, hint string) {
	var by []string
	last := int32(-1)
	for _, e := range l.rs.about[i].events.list() {
		if last = l.shadowedBy(i, e); last < 0 {
			return "", ""
		}
		if name := l.named(last); !slices.Contains(by, name) {
			by = append(by, name)
		}
	}
	switch {
	case len(by) == 0:
		return "", ""
	case len(by) > 1:
		return "the rule never decides: rules " + strings.Join(by, " and ") + " together match all that it does, and before it", narrowFirst
	case l.contradicts(i, last):
		return fmt.Sprintf("the rule never decides: it %s what rule %s %s, and that one has the same conditions and stands before it", l.does(i), by[0], l.does(last)), oneOfThem
	}
	return "the rule never decides: rule " + by[0] + " matches all that it does, and before it", narrowFirst
}

const (
	narrowFirst = "take one of them out, or let the narrower one stand first"
	oneOfThem   = "say which is meant, and take the other one out"
)

// contradictions names the events of rule i, which decides others, that an earlier rule with
// the same conditions decides in another way.
func (l *linter) contradictions(i int32) {
	all := l.rs.about[i].events.list()
	if len(all) < 2 {
		return // then it decides nothing, or all
	}
	events := map[int32][]string{}
	var order []int32
	for _, e := range all {
		by := l.shadowedBy(i, e)
		if by < 0 || !l.contradicts(i, by) {
			continue
		}
		if events[by] == nil {
			order = append(order, by)
		}
		events[by] = append(events[by], e.String())
	}
	for _, by := range order {
		of := strings.Join(events[by], ", ")
		l.add(int(i), fmt.Sprintf("of %s the rule never decides: it %s what rule %s %s, and that one has the same conditions and stands before it", of, l.does(i), l.named(by), l.does(by)),
			"say which is meant, and take "+of+" out of the events of the other one")
	}
}

// shadowedBy returns an earlier rule that matches whatever rule i does of an event, -1 when
// one is not found. A witness finds the candidate: a request that rule i matches and another
// decides.
func (l *linter) shadowedBy(i int32, e abi.Event) int32 {
	m := &l.rs.all[i]
	var w abi.Request
	w.Event = e
	if !l.rs.witness(&m.match, &w) || !l.rs.matches(i, &w) {
		return -1 // perhaps its not block, perhaps nothing is like that
	}
	d := l.rs.Decide(&w)
	if d.Rule < 0 || d.Rule >= i || l.rs.timedRule(d.Rule) != nil || !l.rs.covers(&l.rs.all[d.Rule], m, e) {
		return -1 // one that counts at times leaves the others to rule i
	}
	return d.Rule
}

// contradicts reports whether rule i, which rule by covers, has the same conditions and does
// something else.
func (l *linter) contradicts(i, by int32) bool {
	rs := l.rs
	a, b := &rs.all[i], &rs.all[by]
	shared := (rs.about[i].events & rs.about[by].events).list()
	return rs.timedRule(i) == nil && l.does(i) != l.does(by) && !slices.ContainsFunc(shared, func(e abi.Event) bool { return !rs.covers(a, b, e) })
}

func (l *linter) named(i int32) string {
	return fmt.Sprintf("%s on line %d", l.rs.RuleID(i), l.rs.Line(i))
}

// does says what a rule does to a request, as a verb.
func (l *linter) does(i int32) string {
	t := &l.rs.thens[l.rs.all[i].then]
	switch t.Verdict.Action {
	case Deny:
		if t.Verdict.Errno != errnoByName("EPERM") {
			return "refuses with " + ErrnoName(t.Verdict.Errno)
		}
		return "refuses"
	case Audit:
		return "allows and records"
	case Kill:
		return "kills for"
	case Ask:
		return "asks about"
	}
	if t.only != 0 {
		return "allows for " + strings.Join(AccessNames(t.only), " and ")
	}
	return "allows"
}

// SPDX-License-Identifier: Apache-2.0

package rules

import "fmt"

// never reports whether the not block of a rule holds wherever the rest of the rule does, so
// that nothing is left to it.
func (l *linter) never(i int32) bool {
	return l.takenOut(i, &l.rs.all[i].match)
}

// takenOut reports whether the not block of rule i holds wherever c does, of every event.
func (l *linter) takenOut(i int32, c *conditions) bool {
	not := l.rs.all[i].not
	if not == 0 {
		return false
	}
	for _, e := range l.rs.about[i].events.list() {
		if !l.rs.wider(&l.rs.nots[not], c, e) {
			return false
		}
	}
	return true
}

// excluded names the patterns of a list that match nothing, for the not block takes out all
// that they match. Lists of more than fewPatterns are not looked at.
func (l *linter) excluded(i int32) {
	m := &l.rs.all[i]
	if m.not == 0 {
		return
	}
	for f, what := range [...]string{factPath: "object.path", factDetail: "detail", factExe: "subject.exe"} {
		alone := m.match
		t := alone.text(fact(f))
		if t.kind != fewTexts {
			continue
		}
		all := *t
		for n := range all.n {
			*t = texts{at: all.at + uint32(n), n: 1, kind: fewTexts}
			if !l.takenOut(i, &alone) {
				continue
			}
			for q := range l.rs.each(*t) {
				l.add(int(i), fmt.Sprintf("%s %s matches nothing: the not block takes out all that it matches", what, q), "take one of them out")
			}
		}
	}
}

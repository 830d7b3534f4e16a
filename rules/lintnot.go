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
// that they match.
func (l *linter) excluded(i int32) {
	for _, q := range l.takenPatterns(i) {
		for p := range l.rs.each(q.alone) {
			l.add(int(i), fmt.Sprintf("%s %s matches nothing: the not block takes out all that it matches", textNames[q.fact], p), "take one of them out")
		}
	}
}

var textNames = [...]string{factPath: "object.path", factDetail: "detail", factExe: "subject.exe"}

// takenPattern is one pattern of a list.
type takenPattern struct {
	fact  fact
	alone texts
}

// takenPatterns returns the patterns of rule i that its not block leaves nothing of. Lists of
// more than fewPatterns are not looked at.
func (l *linter) takenPatterns(i int32) (out []takenPattern) {
	m := &l.rs.all[i]
	if m.not == 0 {
		return nil
	}
	for f := factPath; f <= factExe; f++ {
		c := m.match
		t := c.text(f)
		if t.kind != fewTexts {
			continue
		}
		all := *t
		for n := range all.n {
			*t = texts{at: all.at + uint32(n), n: 1, kind: fewTexts}
			if l.takenOut(i, &c) {
				out = append(out, takenPattern{f, *t})
			}
		}
	}
	return out
}

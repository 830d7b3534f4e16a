// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"strings"
)

// maxCompared bounds how many pairs of values are compared for the report, about a second.
const maxCompared = 20_000_000

// comparer looks for requests that two rules match. It may find some where there are none.
type comparer struct{ left int }

// meet reports whether both rules can match one request.
func (c *comparer) meet(a, b *rule) bool {
	return anyPair(c, a.events, b.events, func(a, b string) bool { return a == b }) && c.meetBeside(a, b)
}

// meetBeside is meet for rules that may be about other events.
func (c *comparer) meetBeside(a, b *rule) bool {
	return anyPair(c, a.match.path, b.match.path, pattern.meets) &&
		anyPair(c, a.match.exe, b.match.exe, pattern.meets) &&
		anyPair(c, a.match.sha256, b.match.sha256, func(a, b string) bool { return a == b }) &&
		anyPair(c, a.match.uid, b.match.uid, span.meets) && anyPair(c, a.match.gid, b.match.gid, span.meets) &&
		anyPair(c, a.match.euid, b.match.euid, span.meets) && anyPair(c, a.match.egid, b.match.egid, span.meets)
}

// anyPair reports whether a condition that is given by two lists can hold in both. An empty list
// is no condition.
func anyPair[T any](c *comparer, a, b []T, meets func(T, T) bool) bool {
	if len(a) == 0 || len(b) == 0 {
		return true
	}
	for _, x := range a {
		for _, y := range b {
			if c.left--; c.left < 0 || meets(x, y) {
				return true
			}
		}
	}
	return false
}

func (s span) meets(o span) bool { return s.first <= o.last && o.first <= s.last }

// meets compares what the patterns begin with.
func (p pattern) meets(o pattern) bool {
	a, aOpen := p.head()
	b, bOpen := o.head()
	switch {
	case aOpen && bOpen:
		return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
	case aOpen:
		return strings.HasPrefix(b, a)
	case bOpen:
		return strings.HasPrefix(a, b)
	}
	return a == b
}

// head is what every path that matches begins with; open says that more can follow.
func (p pattern) head() (text string, open bool) {
	switch {
	case p.kind == prefix:
		return strings.TrimSuffix(p.text, "/") + "/", true
	case p.kind == globbed:
		if i := strings.IndexAny(p.text, wildcards+`\`); i >= 0 {
			return p.text[:i], true
		}
	}
	return p.text, false
}

// tellSuccessors says of each rule that was left out, or matches less than it did, which later rules
// decide in its place and differently.
func (im *importer) tellSuccessors() {
	c := comparer{left: maxCompared}
	about := map[string]int{} // index of the first finding about a rule
	for i := len(im.findings) - 1; i >= 0; i-- {
		about[im.findings[i].Rule] = i
	}
	for i := range im.rules {
		r := &im.rules[i]
		if !r.leftOut() && !r.narrower {
			continue
		}
		var names []string
		total := 0
		for j := i + 1; j < len(im.rules) && c.left >= 0; j++ {
			c.left--
			// Two rules of one place say the same, one of them what the other could not.
			later := &im.rules[j]
			if later.leftOut() || later.place == r.place || later.verdict.denies() == r.verdict.denies() || !c.meet(r, later) {
				continue
			}
			const shown = 5
			if total++; total <= shown {
				names = append(names, fmt.Sprintf("%s (%s:%d)", later.id, bare(later.file), later.line))
			}
		}
		does := map[bool]string{true: "allow what it refuses", false: "refuse what it allows"}[r.verdict.denies()]
		var text string
		switch {
		case c.left < 0:
			text = "; there are too many rules to say which later ones may " + does
		case total > 0:
			text = fmt.Sprintf("; later rules that may %s: %s", does, strings.Join(names, ", "))
			if more := total - len(names); more > 0 {
				text += fmt.Sprintf(" and %d more", more)
			}
		case r.leftOut() && r.verdict.denies():
			text = "; what it refuses the default allows, unless a later rule refuses it"
		}
		im.findings[about[r.id]].Message += text
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"iter"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// texts is a condition on a text: a list of patterns. That of one plain pattern is all here, for
// each look elsewhere is a miss in the cache of the CPU where rules are many.
type texts struct {
	at     uint32 // of the text in pool.text; of a list in pool.patterns or pool.members
	n      uint16 // bytes of the text, or patterns of the list
	kind   listKind
	asGlob bool // see textPattern
}

type listKind uint8

const (
	noTexts    listKind = iota // the condition is not given
	oneLiteral                 // one pattern, literal
	onePrefix                  // one pattern, prefix
	fewTexts                   // up to fewPatterns, in pool.patterns
	manyTexts                  // more, in pool.members
)

// fewPatterns is up to how many patterns of one condition are compared one after another,
// which mostly ends at the length; more are filed as rules are.
const fewPatterns = 16

// textPattern is a compiled pattern. What is written as a glob and is none is compared as what
// it is.
type textPattern struct {
	at     uint32 // of its text in pool.text
	glob   uint32 // of pool.globs
	n      uint16 // bytes of the text
	kind   patternKind
	asGlob bool // how it is written
}

// alone returns the condition that has this pattern alone, if it has room in one.
func (q *textPattern) alone() (texts, bool) {
	switch q.kind {
	case literal:
		return texts{at: q.at, n: q.n, kind: oneLiteral, asGlob: q.asGlob}, true
	case prefix:
		return texts{at: q.at, n: q.n, kind: onePrefix, asGlob: q.asGlob}, true
	}
	return texts{}, false
}

// members is a long list of patterns: a rule set of its own, with a rule for each pattern.
// Whether a text is in it, is whether a rule matches.
type members struct {
	rs   *RuleSet
	root *node
	fact fact // that the patterns are about
}

// text returns the condition on a text.
func (c *conditions) text(f fact) *texts {
	switch f {
	case factPath:
		return &c.path
	case factDetail:
		return &c.detail
	}
	return &c.exe
}

// holds reports whether one of the patterns matches a text of the request; none does when the
// text is not known.
func (p *pool) holds(t texts, f fact, r *abi.Request) bool {
	b, ok := f.of(r)
	if !ok {
		return false
	}
	switch t.kind {
	case oneLiteral:
		return len(b) == int(t.n) && string(b) == p.text[t.at:int(t.at)+len(b)]
	case onePrefix:
		return len(b) >= int(t.n) && string(b[:t.n]) == p.text[t.at:int(t.at)+int(t.n)]
	case fewTexts:
		return p.match(p.patterns[t.at:t.at+uint32(t.n)], b)
	}
	m := &p.members[t.at]
	return m.rs.search(m.root, r, nobody) != nobody
}

// match reports whether one of the patterns matches b.
func (p *pool) match(patterns []textPattern, b []byte) bool {
	for i := range patterns {
		q := &patterns[i]
		switch n := int(q.n); q.kind {
		case literal:
			if len(b) == n && string(b) == p.text[q.at:int(q.at)+n] {
				return true
			}
		case prefix:
			if len(b) >= n && string(b[:n]) == p.text[q.at:int(q.at)+n] {
				return true
			}
		default:
			if p.globs[q.glob].match(b) {
				return true
			}
		}
	}
	return false
}

// each yields the patterns of a list in the order of the file.
func (p *pool) each(t texts) iter.Seq[compiledPattern] {
	return func(yield func(compiledPattern) bool) {
		var of []textPattern
		switch t.kind {
		case oneLiteral:
			of = []textPattern{{at: t.at, n: t.n, kind: literal, asGlob: t.asGlob}}
		case onePrefix:
			of = []textPattern{{at: t.at, n: t.n, kind: prefix, asGlob: t.asGlob}}
		case fewTexts:
			of = p.patterns[t.at : t.at+uint32(t.n)]
		case manyTexts:
			m := &p.members[t.at]
			for i := range m.rs.all {
				for c := range m.rs.each(*m.rs.all[i].match.text(m.fact)) {
					if !yield(c) {
						return
					}
				}
			}
			return
		}
		for _, q := range of {
			c := compiledPattern{kind: q.kind, asGlob: q.asGlob, text: p.text[q.at : q.at+uint32(q.n)]}
			if q.kind == globbed {
				c.glob = &p.globs[q.glob]
			}
			if !yield(c) {
				return
			}
		}
	}
}

// len returns how many patterns a list has.
func (p *pool) len(t texts) int {
	switch t.kind {
	case noTexts:
		return 0
	case fewTexts:
		return int(t.n)
	case manyTexts:
		return len(p.members[t.at].rs.all)
	}
	return 1
}

// compiledPattern is one of them, for those who have time.
type compiledPattern struct {
	kind   patternKind
	asGlob bool
	text   string
	glob   *glob // of a glob
}

// String returns the pattern for messages, as it is written.
func (c compiledPattern) String() string {
	switch {
	case !c.asGlob || c.kind == globbed:
		return pattern{kind: c.kind, text: c.text}.String()
	case c.kind == prefix:
		return pattern{kind: globbed, text: escapeGlob(c.text) + "**"}.String()
	}
	return pattern{kind: globbed, text: escapeGlob(c.text)}.String()
}

// escapeGlob returns the glob that matches text alone.
func escapeGlob(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(wildcards+`\`, text[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"strings"

	"github.com/arbiterd/arbiter/rules"
)

// form says how a pattern compares; the names are those of rules.
type form byte

const (
	isLiteral form = '='
	isGlob    form = '*'
	isPrefix  form = '/'
)

// pattern is a path pattern. A literal can be any text.
type pattern struct {
	form form
	text string // as rules write it
	// Of a glob, what its components are; the first one stands behind the first slash.
	parts []part
}

// part is one component of a glob: texts with a wildcard between each two. One text and
// no wildcard is a component that is written out.
type part struct {
	texts []string
	// The wildcard behind texts[i] begins with a digit: [0-9]*, else it is *.
	digit []bool
}

func literal(text string) pattern { return pattern{form: isLiteral, text: text} }

func prefixOf(dir string) pattern { return pattern{form: isPrefix, text: dir} }

// globOf returns a glob, or the literal when nothing in it is wild.
func globOf(parts []part) pattern {
	var b strings.Builder
	wild := false
	for _, p := range parts {
		b.WriteByte('/')
		for i, t := range p.texts {
			if i > 0 {
				wild = true
				if p.digit[i-1] {
					b.WriteString("[0-9]")
				}
				b.WriteByte('*')
			}
			escapeGlob(&b, t)
		}
	}
	if !wild {
		var plain strings.Builder
		for _, p := range parts {
			plain.WriteString("/" + p.texts[0])
		}
		return literal(plain.String())
	}
	return pattern{form: isGlob, text: b.String(), parts: parts}
}

// escapeGlob writes t so that it matches itself in a glob.
func escapeGlob(b *strings.Builder, t string) {
	for i := range len(t) {
		if strings.IndexByte(`*?[]{}\`, t[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(t[i])
	}
}

// encode returns the pattern as an entry of a set; decodePattern is the way back, without
// the parts.
func (p pattern) encode() string { return string(p.form) + p.text }

func decodePattern(s string) pattern { return pattern{form: form(s[0]), text: s[1:]} }

// tooLong reports whether rules would not read it.
func (p pattern) tooLong() bool { return len(p.text) > rules.MaxPatternBytes-1 }

// plain reports whether the component is written out.
func (p part) plain() bool { return len(p.texts) == 1 }

// matches reports whether name is such a component, as rules compare it. Where the texts
// are whole characters bytes say the same as characters.
func (p part) matches(name string) bool {
	first, rest := p.texts[0], p.texts[1:]
	if len(rest) == 0 {
		return name == first
	}
	if !strings.HasPrefix(name, first) {
		return false
	}
	return wildMatch(name[len(first):], rest, p.digit)
}

// wildMatch matches what stands behind a text: a wildcard, the next text, and so on.
func wildMatch(name string, texts []string, digit []bool) bool {
	if digit[0] {
		if name == "" || name[0] < '0' || name[0] > '9' {
			return false
		}
		name = name[1:]
	}
	if len(texts) == 1 {
		return strings.HasSuffix(name, texts[0])
	}
	for at := 0; at <= len(name); at++ {
		if strings.HasPrefix(name[at:], texts[0]) && wildMatch(name[at+len(texts[0]):], texts[1:], digit[1:]) {
			return true
		}
	}
	return false
}

// covers reports whether the pattern matches a path.
func (p pattern) covers(path string) bool {
	switch p.form {
	case isPrefix:
		return strings.HasPrefix(path, p.text+"/")
	case isLiteral:
		return path == p.text
	}
	names := strings.Split(path[1:], "/")
	if len(names) != len(p.parts) {
		return false
	}
	for i, n := range names {
		if !p.parts[i].matches(n) {
			return false
		}
	}
	return true
}

// components splits a path into parts that are written out.
func components(path string) []part {
	var out []part
	for n := range strings.SplitSeq(path[1:], "/") {
		out = append(out, part{texts: []string{n}})
	}
	return out
}

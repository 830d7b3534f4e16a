// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"unicode/utf8"
)

// Limits of a dfa. They bound its memory, and the time that making it takes.
const (
	// maxDFASteps is the largest program that a pattern may have: about one step for each
	// character of it, with repetitions like {9} written out.
	maxDFASteps = 1000
	// maxDFACells is the largest table, states times classes of characters.
	maxDFACells = 1 << 14
)

const regexHint = `simplify it: repeat less often, or test the ends with startsWith and endsWith; the syntax is that of RE2, such as r"\.(so|ko)$"`

var errDFASize = errors.New("needs too large a table")

// dfa is a regular expression as a table: each character of a text is one look-up, whatever
// the pattern and the text are. It says what regexp.Match says and allocates nothing.
type dfa struct {
	ascii   [utf8.RuneSelf]uint8 // class of a character
	beyond  []classFrom          // of the others
	classes int
	next    []uint16 // where the row of the next state begins, by row + class
	ends    []bool   // by state: the text may end here
}

// classFrom says that the characters from first on, up to those of the next, are of a class.
type classFrom struct {
	first rune
	class uint8
}

// States that end the search. The others follow.
const (
	dfaNever = iota // nothing that follows can match
	dfaFound        // it matches, whatever follows
	dfaStart
)

// match reports whether the pattern matches anywhere in the text. A byte that belongs to no
// UTF-8 character is U+FFFD, as in package regexp.
func (d *dfa) match(text []byte) bool {
	row, found := dfaStart*d.classes, dfaFound*d.classes
	for i := 0; i < len(text); {
		var class uint8
		if c := text[i]; c < utf8.RuneSelf {
			class = d.ascii[c]
			i++
		} else {
			r, n := utf8.DecodeRune(text[i:])
			class = d.class(r)
			i += n
		}
		row = int(d.next[row+int(class)])
		if row <= found {
			return row == found
		}
	}
	return d.ends[row/d.classes]
}

// class looks up a character beyond ASCII.
func (d *dfa) class(r rune) uint8 {
	lo, hi := 0, len(d.beyond)
	for lo+1 < hi {
		if mid := int(uint(lo+hi) / 2); d.beyond[mid].first <= r {
			lo = mid
		} else {
			hi = mid
		}
	}
	return d.beyond[lo].class
}

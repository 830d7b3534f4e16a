// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"slices"
	"strings"
)

// maxGlobSteps keeps every glob below the 1,024 steps that a rule file may have; the steps
// that are counted here are at least those that it takes.
const maxGlobSteps = 1000

// escaped returns text as a glob that matches it and nothing else.
func escaped(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if strings.IndexByte(wildcards+`\`, c) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(c)
	}
	return b.String()
}

// The makers of patterns return why no path can match, "" when one can.

// exactly is the path itself.
func exactly(path string) (pattern, string) { return pattern{literal, path}, unclean(path) }

// beginning is every path whose text begins so.
func beginning(text string) (pattern, string) {
	if dir, cut := strings.CutSuffix(text, "/"); cut {
		if dir == "" {
			dir = "/"
		}
		return pattern{prefix, dir}, unclean(dir)
	}
	return finished(escaped(text)+"**", len(text)+1)
}

// ending is every path whose text ends so. What stands before a text that begins with / is any
// number of directories, also none, and that is how a glob reads /**/.
func ending(text string) (pattern, string) { return finished("/**"+escaped(text), len(text)+5) }

// containing is every path with the text in it.
func containing(text string) (pattern, string) {
	return finished("/**"+escaped(text)+"**", len(text)+6)
}

// finished returns a glob that a rule file can hold, or says why it cannot.
func finished(glob string, steps int) (pattern, string) {
	if steps > maxGlobSteps {
		return pattern{}, "is too long for a pattern"
	}
	return pattern{globbed, glob}, unclean(glob)
}

// class is a bracket expression of bytes.
type class struct {
	not    bool
	ranges [][2]byte
}

// parseClass reads what follows a [ up to its ]. closed is false when there is none: then
// the [ is an ordinary character.
func parseClass(s string, negations string, escapes bool) (c class, rest string, closed bool) {
	if s != "" && strings.IndexByte(negations, s[0]) >= 0 {
		c.not = true
		s = s[1:]
	}
	one := func() (byte, bool) {
		if escapes && len(s) > 1 && s[0] == '\\' {
			s = s[1:]
		}
		if s == "" {
			return 0, false
		}
		b := s[0]
		s = s[1:]
		return b, true
	}
	for first := true; s != ""; first = false {
		if s[0] == ']' && !first {
			return c, s[1:], true
		}
		lo, ok := one()
		hi := lo
		if ok && len(s) > 1 && s[0] == '-' && s[1] != ']' {
			s = s[1:]
			hi, ok = one()
		}
		if !ok {
			break
		}
		c.ranges = append(c.ranges, [2]byte{lo, hi})
	}
	return c, "", false
}

// has reports whether the class matches b.
func (c *class) has(b byte) bool {
	return c.not != slices.ContainsFunc(c.ranges, func(r [2]byte) bool { return r[0] <= b && b <= r[1] })
}

// strange says why the class cannot be written here, "" when it can.
func (c *class) strange() string {
	for _, r := range c.ranges {
		switch {
		case r[0] >= 0x80 || r[1] >= 0x80:
			return "has a bracket with characters that are not ASCII, which locales read differently"
		case r[0] > r[1]:
			return "has a bracket with a range that is empty"
		}
	}
	return ""
}

// glob returns the characters that the class matches but for those of without, as a glob of
// one character; "" when there are none.
func (c *class) glob(without string) string {
	var b strings.Builder
	set := *c
	if set.not {
		for _, w := range []byte(without) {
			set.ranges = append(slices.Clone(set.ranges), [2]byte{w, w})
		}
		without = "/" // which a class of ours never matches and must not name
		b.WriteByte('!')
	} else {
		without += "/"
	}
	for at := 0; at < 0x80; at++ {
		in := func(at int) bool {
			in := class{ranges: set.ranges}
			return at < 0x80 && in.has(byte(at)) && strings.IndexByte(without, byte(at)) < 0
		}
		if !in(at) {
			continue
		}
		end := at
		for in(end + 1) {
			end++
		}
		b.WriteString(classByte(byte(at)))
		if end > at {
			b.WriteString("-" + classByte(byte(end)))
		}
		at = end
	}
	switch b.String() {
	case "":
		return ""
	case "!": // everything but / is left
		return "?"
	}
	return "[" + b.String() + "]"
}

// classByte writes a byte so that it means itself between brackets.
func classByte(c byte) string {
	if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c <= ' ' || c == 0x7f {
		return string(rune(c))
	}
	return `\` + string(rune(c))
}

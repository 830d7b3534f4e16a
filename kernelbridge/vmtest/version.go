// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"cmp"
	"strings"
)

// CompareVersions orders two Debian package versions, [epoch:]upstream[-revision], by the rules of Debian policy 5.6.12:
// negative when a is older than b. The tilde sorts before everything, even before the end, so 7.3~rc7 is older than 7.3.
func CompareVersions(a, b string) int {
	ae, au, ar := splitVersion(a)
	be, bu, br := splitVersion(b)
	return cmp.Or(comparePart(ae, be), comparePart(au, bu), comparePart(ar, br))
}

func splitVersion(v string) (epoch, upstream, revision string) {
	if e, rest, ok := strings.Cut(v, ":"); ok {
		epoch, v = e, rest
	}
	if i := strings.LastIndexByte(v, '-'); i >= 0 {
		return epoch, v[:i], v[i+1:]
	}
	return epoch, v, ""
}

// comparePart takes turns: a run without digits by character, then a run of digits by number, until both are used up.
func comparePart(a, b string) int {
	for a != "" || b != "" {
		for (a != "" && !isDigit(a[0])) || (b != "" && !isDigit(b[0])) {
			if c := cmp.Compare(weight(a), weight(b)); c != 0 {
				return c
			}
			a, b = a[1:], b[1:] // equal and not both digits or ends, so both have a character
		}
		var an, bn string
		an, a = cutDigits(a)
		bn, b = cutDigits(b)
		if c := cmp.Or(cmp.Compare(len(an), len(bn)), strings.Compare(an, bn)); c != 0 {
			return c
		}
	}
	return 0
}

// weight of the first character: tilde, then the end or a digit, then letters, then all others.
func weight(s string) int {
	switch {
	case s == "" || isDigit(s[0]):
		return 0
	case s[0] == '~':
		return -1
	case s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z':
		return int(s[0])
	}
	return int(s[0]) + 256
}

func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// inSeries tells whether a version belongs to a series: "6.1" holds 6.1.192-2 and not 6.12.1-1.
func inSeries(version, series string) bool {
	_, upstream, _ := splitVersion(version)
	rest, ok := strings.CutPrefix(upstream, series)
	return ok && (rest == "" || !isDigit(rest[0]))
}

// seriesOf is the first two numbers of a version: "6.12" of 6.12.118-1.
func seriesOf(version string) string {
	_, upstream, _ := splitVersion(version)
	major, rest, _ := strings.Cut(upstream, ".")
	i := 0
	for i < len(rest) && isDigit(rest[i]) {
		i++
	}
	if i == 0 {
		return major
	}
	return major + "." + rest[:i]
}

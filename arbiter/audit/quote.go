// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// Quote returns s for a terminal: printable UTF-8 as it is, everything else as
// an escape. A backslash is doubled, so the result is unambiguous: it is the
// inside of a Go string literal in which double quotes stand as they are.
//
//   - \n, \r, \t, and \xNN for the other bytes below 0x80 that do not print
//   - \xNN for each byte that is not part of valid UTF-8
//   - \uNNNN or \UNNNNNNNN for characters that do not print: C1 controls, direction
//     overrides and isolates, zero-width and private characters, odd spaces
//
// It never fails and may be called concurrently.
func Quote[T ~string | ~[]byte](s T) string {
	// Fast path: most paths are plain ASCII.
	for i := 0; ; i++ {
		if i == len(s) {
			return string(s)
		}
		if c := s[i]; c < ' ' || c >= 0x7f || c == '\\' {
			return string(appendQuoted(make([]byte, 0, len(s)+16), string(s)))
		}
	}
}

// Field is Quote for a column: spaces are \x20, so that nobody can draw a second
// column into a path, and nothing at all is "-".
func Field[T ~string | ~[]byte](s T) string {
	switch q := Quote(s); q {
	case "":
		return "-"
	case "-":
		return `\x2d`
	default:
		for i := range len(q) {
			if q[i] == ' ' {
				return spaceless(q)
			}
		}
		return q
	}
}

func spaceless(q string) string {
	var out []byte
	for i := range len(q) {
		if q[i] == ' ' {
			out = append(out, `\x20`...)
			continue
		}
		out = append(out, q[i])
	}
	return string(out)
}

func appendQuoted(dst []byte, s string) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1, r < utf8.RuneSelf && !unicode.IsPrint(r):
			dst = appendByte(dst, s[0])
		case r == '\\':
			dst = append(dst, `\\`...)
		case unicode.IsPrint(r):
			dst = append(dst, s[:n]...)
		case r > 0xffff:
			dst = appendHex(append(dst, `\U`...), uint32(r), 8)
		default:
			dst = appendHex(append(dst, `\u`...), uint32(r), 4)
		}
		s = s[n:]
	}
	return dst
}

func appendByte(dst []byte, c byte) []byte {
	switch c {
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return appendHex(append(dst, `\x`...), uint32(c), 2)
}

// appendHex appends v as exactly that many hexadecimal digits.
func appendHex(dst []byte, v uint32, digits int) []byte {
	for i := digits - 1; i >= 0; i-- {
		dst = append(dst, hexDigits[v>>(4*i)&15])
	}
	return dst
}

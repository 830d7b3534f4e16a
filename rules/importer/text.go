// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"encoding/base64"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// quote returns foreign text for a message: one line of printable ASCII, not too long.
func quote(s string) string {
	cut, more := shortened(s)
	return strconv.QuoteToASCII(cut) + more
}

// bare is quote without the quotes: for a comment, and for text that is usually harmless.
func bare(s string) string {
	cut, more := shortened(s)
	q := strconv.QuoteToASCII(cut)
	if inner := q[1 : len(q)-1]; inner == strings.ReplaceAll(cut, `"`, `\"`) {
		return cut + more
	}
	return q + more
}

// comment returns foreign text for a comment of the rule file, as it is when it is printable ASCII.
func comment(s string) string {
	cut, more := shortened(s)
	for _, c := range []byte(cut) {
		if c < ' ' || c > '~' {
			return quote(s)
		}
	}
	return cut + more
}

// shortened cuts s where people stop reading, and says so.
func shortened(s string) (cut, more string) {
	const most = 200 // bytes
	if len(s) <= most {
		return s, ""
	}
	return s[:most], fmt.Sprintf("... (%d bytes)", len(s))
}

// id returns an id that is made from the place and belongs to no other rule.
func (im *importer) id(at place) string {
	const most = 40 // bytes, so that line and number fit in the 64 of an id
	var b strings.Builder
	base := path.Base(at.file)
	base = strings.TrimSuffix(base, path.Ext(base))
	for _, c := range []byte(strings.ToLower(base)) {
		switch alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'; {
		case b.Len() == most:
		case alnum, b.Len() > 0 && (c == '.' || c == '_' || c == '-'):
			b.WriteByte(c)
		case b.Len() > 0:
			b.WriteByte('-')
		}
	}
	name := strings.TrimRight(b.String(), "-._")
	if name == "" {
		name = im.format
	}
	name += "-" + strconv.Itoa(at.line)
	im.ids[name]++
	if n := im.ids[name]; n > 1 {
		// Ids without a number end in - and digits, so this is none of them.
		name += "." + strconv.Itoa(n)
	}
	return name
}

// unclean says why no path that the kernel reports is, or begins with, s; it returns ""
// when one can.
func unclean(s string) string {
	switch {
	case !strings.HasPrefix(s, "/"):
		return "is not absolute"
	case strings.IndexByte(s, 0) >= 0:
		return "has a NUL byte"
	case len(s) > rules.MaxPatternBytes:
		return fmt.Sprintf("has more than %d bytes", rules.MaxPatternBytes)
	case len(s) > 1 && strings.HasSuffix(s, "/"), strings.Contains(s, "//"):
		return "is not clean: it has a / too many"
	}
	for c := range strings.SplitSeq(s, "/") {
		if c == "." || c == ".." {
			return "is not clean: it has . or .. in it"
		}
	}
	return ""
}

// notCgroup says why the clean path c cannot be a cgroup of a rule file.
func notCgroup(c string) string {
	switch {
	case c == "/":
		return "is the root, which holds every process"
	case strings.HasPrefix(c, "/sys/fs/cgroup/"):
		return "begins with the mount point; write it from below"
	case strings.Count(c, "/") > abi.CgroupLevels:
		return fmt.Sprintf("is more than %d levels deep", abi.CgroupLevels)
	}
	return ""
}

// scalar returns s as a YAML scalar that reads as the bytes of s and is fit for a terminal.
func scalar(s string) string {
	plain := strings.HasPrefix(s, "/")
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("/._+@%~-", c) >= 0)
	}
	switch {
	case plain:
		return s
	case !utf8.ValidString(s):
		return "!!binary " + base64.StdEncoding.EncodeToString([]byte(s))
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// notMessage says why s cannot be the message of a rule, "" when it can.
func notMessage(s string) string {
	if len(s) > rules.MaxMessageBytes {
		return fmt.Sprintf("it has more than %d bytes", rules.MaxMessageBytes)
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || r == utf8.RuneError {
			return "it has characters that do not print"
		}
	}
	return ""
}

// digest returns s as a sha256 in lower case; ok is false when it is none.
func digest(s string) (hex string, ok bool) {
	if len(s) != 64 || strings.Trim(s, "0123456789abcdefABCDEF") != "" {
		return "", false
	}
	return strings.ToLower(s), true
}

// positions turns offsets in a text into lines and columns, forwards only, so that many of
// them cost one walk.
type positions struct {
	text         []byte
	at           int
	line, column int
}

func newPositions(text []byte) *positions { return &positions{text: text, line: 1, column: 1} }

// of returns the place of the offset, which is not before the last one asked for.
func (p *positions) of(offset int) (line, column int) {
	for ; p.at < min(offset, len(p.text)); p.at++ {
		p.column++
		if p.text[p.at] == '\n' {
			p.line, p.column = p.line+1, 1
		}
	}
	return p.line, p.column
}

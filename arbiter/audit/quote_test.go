// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestQuote(t *testing.T) {
	f := func(name, in, want string) {
		t.Helper()
		if got := Quote(in); got != want {
			t.Errorf("%s: Quote(%q) = %s, want %s", name, in, got, want)
		}
		if got := Quote([]byte(in)); got != want {
			t.Errorf("%s: Quote([]byte(%q)) = %s, want %s", name, in, got, want)
		}
	}
	f("empty", "", "")
	f("plain", "/usr/bin/sh", "/usr/bin/sh")
	f("quotes and space stay", `/a b/"c"'d'`, `/a b/"c"'d'`)
	f("letters of the world stay", "/srv/größe/日本語/😀", "/srv/größe/日本語/😀")
	f("newline", "/a\n/b", `/a\n/b`)
	f("tab and return", "\t\r", `\t\r`)
	f("terminal escape", "\x1b[2J\x1b]0;x\a", `\x1b[2J\x1b]0;x\x07`)
	f("delete", "\x7f", `\x7f`)
	f("backslash", `a\x1b`, `a\\x1b`)
	f("invalid byte", "/a\xff\xfe", `/a\xff\xfe`)
	f("cut character", "\xe6\x97", `\xe6\x97`)
	f("surrogate in UTF-8", "\xed\xa0\x80", `\xed\xa0\x80`)
	f("C1 control", "\u009b31m", `\u009b31m`)
	f("direction override", "/a\u202egpj.sh", `/a\u202egpj.sh`)
	f("isolates", "\u2066\u2069", `\u2066\u2069`)
	f("line separator", "\u2028", `\u2028`)
	f("zero width", "a\u200bb", `a\u200bb`)
	f("no-break space", "a\u00a0b", `a\u00a0b`)
	f("tag character", "\U000e0041", `\U000e0041`)
	f("replacement character itself", "\ufffd", "\ufffd")
}

func TestField(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := Field(in); got != want {
			t.Errorf("Field(%q) = %s, want %s", in, got, want)
		}
	}
	f("", "-")
	f("-", `\x2d`)
	f("--", "--")
	f("/a  allow  b", `/a\x20\x20allow\x20\x20b`)
	f("/a\n", `/a\n`)
}

// unquote is an independent reading of what Quote documents.
func unquote(s string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
}

func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", "/a", "\x1b[0m", "\\n\n", "\xff", "\u202e", `"\`, `\"`, " ", "-", "\U0010ffff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		for name, out := range map[string]string{"Quote": Quote(in), "Field": Field(in)} {
			if !utf8.ValidString(out) {
				t.Errorf("%s(%q) = %q is not UTF-8", name, in, out)
			}
			for _, r := range out {
				if !unicode.IsPrint(r) || name == "Field" && r == ' ' {
					t.Errorf("%s(%q) = %q holds %U", name, in, out, r)
				}
			}
			back, err := unquote(out)
			if name == "Field" && out == "-" {
				back, err = "", nil
			}
			if err != nil || back != in {
				t.Errorf("%s(%q) = %s reads as %q, %v", name, in, out, back, err)
			}
		}
	})
}

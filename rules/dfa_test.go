// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"regexp"
	"strings"
	"testing"
)

// genPatterns are those that expressions are drawn with.
var genPatterns = []string{"", "a", "^/a", "a$", "^/a/.*b$", `\.so$`, "(?i)A/B", "[^/]+/[^/]+$", `\bab\b`, `^(/a|/b)+$`, "é", "(?m)^b", "(?s)a.b", "a{2,3}", `\x{fffd}`, "^$"}

// dfaPatterns are patterns with texts, each of which is tried on all texts.
var dfaPatterns = append([]string{`(a|ab)(c|bcd)(d*)`, `^a*$`, `(?m)^a$`, `(?ms)^.*b$`, `\Aa\z`, `a??b`, `(?i)k`, `(?i)ſ`, `\pL+\d`, `[^\n]x`, `\Bb`, `\b`, `x*`, `(?U)a+b`,
	`[[:^alpha:]]`, `$^`, `(?m)$\n^`, `[^\x00-\x{10FFFF}]`, `[\x{10000}-\x{10FFFF}]`, `\x{fffd}{2}`, `a{0}`, `(|a)*b`, `\Q.*\E`, `(((a?){3}){3}){3}b`}, genPatterns...)

var dfaTexts = []string{"", "a", "b", "ab", "abcd", "a\nb", "\na\n", "k", "K", "\u212a", "s", "ſ", "é1", "e\u0301", "\xff", "\xff\xfe", "a\xffb", "\U0001f600", "/a/b", "/srv/a.so", "xx ab y",
	"_b", "ab_", ".*", "\x00", "\ufffd", "\xed\xa0\x80", "/A/B", "aaa", strings.Repeat("a", 40) + "b"}

// TestDFA: the table says what package regexp says.
func TestDFA(t *testing.T) {
	for _, pattern := range dfaPatterns {
		d, err := compileDFA(pattern)
		if err != nil {
			t.Errorf("%q: %v", pattern, err)
			continue
		}
		re := regexp.MustCompile(pattern)
		for _, text := range dfaTexts {
			if got, want := d.match([]byte(text)), re.MatchString(text); got != want {
				t.Errorf("%q on %q: got %v, want %v", pattern, text, got, want)
			}
		}
	}
}

func TestDFALimits(t *testing.T) {
	for _, tc := range []struct{ name, pattern, want string }{
		{"syntax", `a(`, "is no regular expression: missing closing )"},
		{"an unknown escape", `\y`, "is no regular expression: invalid escape sequence"},
		{"back reference", `(a)\1`, "is no regular expression: invalid escape sequence"},
		{"look ahead", `a(?=b)`, "is no regular expression: invalid or unsupported Perl syntax"},
		{"repeated too often", `a{1001}`, "is no regular expression: invalid repeat count"},
		{"many steps", `(abcdefghij){101}`, "needs too large a table"},
		{"many states", `a.{20}b`, "needs too large a table"},
		{"many classes", classesPattern(), "needs too large a table"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := compileDFA(tc.pattern); err == nil || err.Error() != tc.want {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	for _, pattern := range []string{`^[0-9a-f]{64}$`, `/[^/]{1,100}\.so$`, `(?i)\.(exe|dll|scr|com|bat|cmd|ps1|vbs|js)$`, `^\p{Greek}+$`, `^/home/[^/]+/\.(ssh|gnupg|aws)/`} {
		if _, err := compileDFA(pattern); err != nil {
			t.Errorf("%s: %v", pattern, err)
		}
	}
}

// classesPattern tells more characters apart than there are classes.
func classesPattern() string {
	var b strings.Builder
	for r := rune(0x4e00); r < 0x4e00+300; r++ {
		b.WriteRune(r)
	}
	return b.String()
}

// FuzzDFA: whatever the pattern and the text, the table says what package regexp says.
func FuzzDFA(f *testing.F) {
	for i, p := range dfaPatterns {
		f.Add(p, dfaTexts[i%len(dfaTexts)])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 60 || len(text) > 200 {
			return
		}
		d, err := compileDFA(pattern)
		re, err2 := regexp.Compile(pattern)
		if err2 != nil {
			if err == nil {
				t.Fatalf("%q is accepted, package regexp says %v", pattern, err2)
			}
			return
		}
		if err != nil {
			return // too large
		}
		if got, want := d.match([]byte(text)), re.MatchString(text); got != want {
			t.Errorf("%q on %q: got %v, want %v", pattern, text, got, want)
		}
	})
}

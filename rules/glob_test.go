// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{"/a/*", []string{"/a/b", "/a/é", "/a/\xff", "/a/b\nc"}, []string{"/a", "/a/b/c", "/b/a"}},
		{"/a/*.so", []string{"/a/x.so", "/a/.so", "/a/.so.so"}, []string{"/a/x.so.1", "/a/b/x.so", "/a/xso"}},
		{"/a/**", []string{"/a/b", "/a/b/c"}, []string{"/a", "/ab", "/b/a/c"}},
		{"/a/**/b", []string{"/a/b", "/a/x/b", "/a/x/y/b"}, []string{"/a/xb", "/a/x/yb", "/ab", "/a/b/c"}},
		{"/a/**/*.so", []string{"/a/x.so", "/a/b/c/x.so"}, []string{"/ax.so", "/a/x.so/y"}},
		{"/**/a", []string{"/a", "/x/a", "/x/y/a"}, []string{"/xa", "/x/ya", "/a/x"}},
		{"/**/a/**/b", []string{"/a/b", "/x/a/b", "/a/x/b", "/a/a/b/b"}, []string{"/a", "/b", "/b/a"}},
		{"/a/b**c", []string{"/a/bc", "/a/b/x/c", "/a/bxc"}, []string{"/a/b", "/a/b/c/d"}},
		{"/a?c", []string{"/abc", "/aéc", "/a\xffc"}, []string{"/a/c", "/ac", "/a\xff\xfec", "/abbc"}},
		{"/[a-c]", []string{"/a", "/b", "/c"}, []string{"/d", "/", "/ab", "//"}},
		{"/[!a-c]", []string{"/d", "/é", "/\xff"}, []string{"/a", "/b", "//", "/", "/dd"}},
		{"/*[!é]", []string{"/a", "/éa"}, []string{"/é", "/aé"}},
		{"/[à-é]", []string{"/à", "/é", "/ç"}, []string{"/e", "/ê", "/\xc3"}},
		{`/[\]\-\\!]`, []string{"/]", "/-", `/\`, "/!"}, []string{"/a", "/["}},
		{"/[a-]", []string{"/a", "/-"}, []string{"/b"}},
		{"/[+-9]", []string{"/.", "/5"}, []string{"//"}},
		{"/{a,b}/c", []string{"/a/c", "/b/c"}, []string{"/ab/c", "/c", "/{a,b}/c"}},
		{"/{a,bc,}d", []string{"/ad", "/bcd", "/d"}, []string{"/abcd", "/bd"}},
		{"/{a{b,c},d*}/e", []string{"/ab/e", "/ac/e", "/d/e", "/dxy/e"}, []string{"/a/e", "/d/x/e"}},
		{"/x/{**/y,z}", []string{"/x/y", "/x/a/b/y", "/x/z"}, []string{"/x/a/z", "/x"}},
		{"/{a}", []string{"/a"}, []string{"/b"}},
		{"/bin/{ba,da,}sh", []string{"/bin/sh", "/bin/bash", "/bin/dash"}, []string{"/bin/zsh", "/bin/bsh"}},
		{`/\*\{\[\\`, []string{`/*{[\`}, []string{"/a"}},
		{"/a,b*", []string{"/a,b", "/a,bc"}, []string{"/a"}},
		{"/*\xff*", []string{"/\xff", "/a\xffb"}, []string{"/a", "/ÿ", "/\xfe", "/a\x80"}},
		{"/*\xa9", []string{"/\xa9", "/a\xa9"}, []string{"/é"}},
		{"/\xc3*", []string{"/\xc3", "/\xc3a"}, []string{"/é"}},
		{"/*", []string{"/a", "/" + strings.Repeat("x", 4094)}, []string{"/a/b"}},
	}
	for _, tc := range tests {
		t.Run(tc.pattern, func(t *testing.T) {
			g, err := compileGlob(tc.pattern)
			if err != nil {
				t.Fatal(err)
			}
			for want, texts := range map[bool][]string{true: tc.yes, false: tc.no} {
				for _, s := range texts {
					if got := g.match([]byte(s)); got != want {
						t.Errorf("match(%q) = %v, want %v", s, got, want)
					}
					if got := naiveGlob(tc.pattern, s); got != want {
						t.Errorf("the reference: match(%q) = %v, want %v", s, got, want)
					}
				}
			}
		})
	}
}

// TestPrefixes is about where one component ends and the next begins.
func TestPrefixes(t *testing.T) {
	for _, written := range []string{"/srv/app", "/srv/app/"} {
		rs := mustLoad(t, head+"rules: [{id: a, events: [open], verdict: deny, object: {path: {prefix: "+written+"}}}]")
		for path, want := range map[string]int32{"/srv/app/x": 0, "/srv/app/x/y": 0, "/srv/app": -1, "/srv/apple": -1, "/srv/apple/x": -1, "/": -1, "": -1} {
			if got := rs.Decide(request(1, path, "", nil)).Rule; got != want {
				t.Errorf("prefix %s, path %q: got rule %d, want %d", written, path, got, want)
			}
		}
	}
	rs := mustLoad(t, head+"rules: [{id: a, events: [open], verdict: deny, object: {path: {prefix: /}}}]")
	if got := rs.Decide(request(1, "/a/b", "", nil)).Rule; got != 0 {
		t.Errorf("prefix /: got rule %d, want 0", got)
	}
}

// TestGlobIsLinear counts steps, not time: the same number of bytes more costs
// the same number of steps more, and all never more than states × symbols, for patterns that are exponential
// or worse with backtracking.
func TestGlobIsLinear(t *testing.T) {
	repeat := func(s string, n int) string { return "/" + strings.Repeat(s, n) }
	patterns := map[string]string{
		"stars":                repeat("*a", 60) + "[b]",
		"deep stars":           repeat("**a", 60) + "[b]",
		"deep directories":     repeat("**/a*/", 20) + "[b]",
		"nested alternatives":  repeat("{a,aa}", 60) + "?[b]",
		"ambiguous branches":   repeat("{a,a}", 60) + "*[b]",
		"empty branches":       repeat("{,a,}", 60) + "?[b]",
		"stars in alternative": repeat("{*a,**a,?}", 30) + "[b]",
		"classes":              repeat("[a-z]*", 60) + "[b]",
		"long, many words":     repeat("*a", 500) + "[b]",
	}
	for name, pattern := range patterns {
		t.Run(name, func(t *testing.T) {
			g, err := compileGlob(pattern)
			if err != nil {
				t.Fatal(err)
			}
			steps := func(n int) int {
				ok, steps := g.run([]byte(strings.Repeat("a", n)))
				if ok {
					t.Errorf("%d times a: matches, want no match", n)
				}
				if most := (len(g.code) + 1) * (n + 1); steps > most {
					t.Errorf("%d times a: %d steps, more than states × symbols = %d", n, steps, most)
				}
				return steps
			}
			two, three, four := steps(2000), steps(3000), steps(4000)
			if early, late := three-two, four-three; late > early+early/20 {
				t.Errorf("1000 more bytes cost %d steps and then %d", early, late)
			}
			t.Logf("%d states, %d steps on 2000 bytes, %d on 4000", len(g.code), two, four)
		})
	}
}

// TestWideAndNarrow compares the automaton of one word with the one of many on
// the same patterns, by padding the latter with literals that always match.
func TestWideAndNarrow(t *testing.T) {
	pad := strings.Repeat("xy", 40)
	for _, mid := range []string{"*b?", "{a,b*}c", "**/[!b]*", "?{x,**}?"} {
		narrow, err := compileGlob("/" + mid + "*")
		if err != nil {
			t.Fatal(err)
		}
		wide, err := compileGlob("/?" + pad + "/" + mid + "*")
		if err != nil {
			t.Fatal(err)
		}
		if len(narrow.code) >= 64 || len(wide.code) < 64 {
			t.Fatalf("%s: %d and %d states, want less and more than a word", mid, len(narrow.code), len(wide.code))
		}
		for _, s := range []string{"", "b", "bx", "ac", "bc", "bzzc", "a/b", "a/c", "xx", "x/x/x", "é", "\xffb\xff"} {
			n, w := narrow.match([]byte("/"+s)), wide.match([]byte("/é"+pad+"/"+s))
			if n != w {
				t.Errorf("%s on %q: one word says %v, many say %v", mid, s, n, w)
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// FuzzParse: no text brings the parser down, what it accepts compiles, and the
// fingerprint is the same when it is read again.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(parseArchive(data).get("rules.yaml"))
	}
	f.Add([]byte(contractFile))
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("f.yaml", src)
		if err != nil {
			var ps Problems
			if !errors.As(err, &ps) || len(ps) == 0 || file != nil {
				t.Fatalf("Parse: got %v and error %#v, want Problems alone", file, err)
			}
			for _, p := range ps {
				if p.Line < 1 || p.Column < 1 || p.Message == "" {
					t.Errorf("a problem without place or message: %+v", p)
				}
				if !utf8.ValidString(p.Error()) {
					t.Errorf("a problem with raw bytes: %q", p.Error())
				}
			}
			return
		}
		rs, err := Compile(file, Options{CgroupID: func(string) (uint64, error) { return 1, nil }})
		if err != nil {
			t.Fatalf("Compile of a file that parsed: %v", err)
		}
		again, err := Parse("g.yaml", rs.Source())
		if err != nil || fingerprint(again) != rs.Fingerprint() {
			t.Fatalf("read again: error %v, another fingerprint", err)
		}
		for e := abi.EventNone; e <= abi.EventCount; e++ {
			r := request(e, "/srv/a", "/bin/sh", func(r *abi.Request) { r.Arg = [abi.Args]uint64{2, 1, 6, 443} })
			d := rs.Decide(r)
			for i, s := range rs.Explain(r).Steps {
				if s.Matched != (int32(i) == d.Rule) {
					t.Fatalf("Explain and Decide differ: %s", rs.Explain(r))
				}
			}
		}
		if _, err := Compile(file, Options{}); err != nil {
			var ps Problems
			if !errors.As(err, &ps) {
				t.Fatalf("Compile without a resolver: %#v, want Problems", err)
			}
		}
	})
}

// FuzzGlob: the automaton says what the naive matcher says.
func FuzzGlob(f *testing.F) {
	for _, s := range [][2]string{{"/a/*", "/a/b"}, {"/**/a", "/x/a"}, {"/{a,b*}/**/c?", "/b/c/cd"}, {"/[!a-c]\xff*", "/d\xff"},
		{`/\*{a\,b,[\]]}`, "/*]"}, {"/a**/b", "/ax/y/b"}, {"/{**/a,}b", "/x/ab"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 24 || len(text) > 24 || pattern == "" || pattern[0] != '/' { // the naive one is exponential
			return
		}
		g, err := compileGlob(pattern)
		if err != nil {
			return
		}
		if got, want := g.match([]byte(text)), naiveGlob(pattern, text); got != want {
			t.Errorf("glob %q on %q: got %v, want %v (%+v)", pattern, text, got, want, g)
		}
	})
}

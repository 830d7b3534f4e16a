// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/arbiterd/arbiter/rules"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testOptions are what a test does not say otherwise.
func testOptions() Options {
	known := func(name string) (uint32, bool) {
		return map[string]uint32{"root": 0, "build": 500}[name], name == "root" || name == "build"
	}
	return Options{Paths: []string{"/"}, UserID: known, GroupID: known}
}

// TestGolden imports the files of each archive of testdata, whose comment begins with the format and the
// options, and compares rule file and report, or the problems, with those in the archive.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < len(formats) {
		t.Fatalf("got %d archives and the error %v, want one for each format at least", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources, golden := split(a)
			first, _, _ := strings.Cut(string(a.Comment), "\n")
			format, options := arguments(t, first)
			got := imported(t, format, sources, options)
			maps.DeleteFunc(got, func(_, text string) bool { return text == "" })
			if diff := cmp.Diff(golden, got); diff != "" && !*update {
				t.Errorf("(-want +got), rewrite it with -update if it should be so:\n%s", diff)
			}
			if *update {
				a.Files = a.Files[:len(sources)]
				for _, name := range []string{"want.yaml", "want.report", "want.problems"} {
					if text, ok := got[name]; ok {
						a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
					}
				}
				if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// split tells the sources of an archive from what is wanted.
func split(a *txtar.Archive) (sources []Source, golden map[string]string) {
	golden = map[string]string{}
	for _, f := range a.Files {
		if strings.HasPrefix(f.Name, "want.") {
			golden[f.Name] = string(f.Data)
			continue
		}
		sources = append(sources, Source{f.Name, f.Data})
	}
	return sources, golden
}

// arguments reads "FORMAT option...".
func arguments(t *testing.T, line string) (string, Options) {
	t.Helper()
	o := testOptions()
	words := strings.Fields(line)
	for _, w := range words[1:] {
		switch name, value, _ := strings.Cut(w, "="); name {
		case "lockdown":
			o.Lockdown = true
		case "setting":
			o.Setting = value
		case "cgroup":
			o.Cgroups = []string{value}
		default:
			t.Fatalf("unknown option %s", w)
		}
	}
	return words[0], o
}

// imported returns the rule file and the report, or the problems, and looks at what holds for all.
func imported(t *testing.T, format string, sources []Source, o Options) map[string]string {
	t.Helper()
	r, err := Import(format, sources, o)
	var ps rules.Problems
	if errors.As(err, &ps) {
		if r != nil || len(ps) == 0 {
			t.Fatalf("got the result %v with %d problems, want problems alone", r, len(ps))
		}
		for _, p := range ps {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || p.Hint == "" {
				t.Errorf("a problem without place, message or hint: %+v", p)
			}
			plain(t, p.Message+p.Hint)
		}
		return map[string]string{"want.problems": ps.Error() + "\n"}
	}
	if err != nil {
		t.Fatal(err)
	}
	if rs := load(t, r.Rules); rs.Len() != r.Imported {
		t.Errorf("the rule file has %d rules, the result says %d:\n%s", rs.Len(), r.Imported, r.Rules)
	}
	if !utf8.Valid(r.Rules) {
		t.Errorf("the rule file is not UTF-8:\n%q", r.Rules)
	}
	var report strings.Builder
	lost := false
	for _, f := range r.Findings {
		if f.Line < 1 || f.File == "" {
			t.Errorf("a finding without a place: %+v", f)
		}
		plain(t, f.Message+f.Rule)
		lost = lost || f.Level == Lost
		fmt.Fprintf(&report, "%s:%d: %v: %s: %s\n", f.File, f.Line, f.Level, f.Rule, f.Message)
	}
	if r.LeftOut > 0 && !lost {
		t.Errorf("%d rules were left out and no finding says so", r.LeftOut)
	}
	return map[string]string{"want.yaml": string(r.Rules), "want.report": report.String()}
}

// plain wants one line of printable ASCII.
func plain(t *testing.T, s string) {
	t.Helper()
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			t.Fatalf("a message with foreign bytes: %q", s)
		}
	}
}

// TestOptions are refused before anything is read.
func TestOptions(t *testing.T) {
	root := []string{"/"}
	tests := []struct {
		name, format string
		o            Options
		want         string
	}{
		{"no format", "ini", Options{Paths: root}, "unknown format"},
		{"no scope", "santa", Options{}, "scope is missing"},
		{"a relative scope", "santa", Options{Paths: []string{"srv"}}, "not absolute"},
		{"an unclean scope", "santa", Options{Paths: []string{"/srv/"}}, "not clean"},
		{"the root cgroup", "santa", Options{Cgroups: root}, "every process"},
		{"a cgroup with the mount point", "santa", Options{Cgroups: []string{"/sys/fs/cgroup/x"}}, "mount point"},
		{"lockdown of another format", "esf", Options{Paths: root, Lockdown: true}, "mode of santa"},
		{"a setting of another format", "esf", Options{Paths: root, Setting: "ReadOnlyPaths"}, "of the format paths"},
		{"an unknown setting", "paths", Options{Paths: root, Setting: "ProtectHome"}, "unknown setting"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			r, err := Import(tc.format, nil, tc.o)
			if r != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v and the error %v, want one with %q", r, err, tc.want)
			}
		})
	}
}

// TestLimits: what is too large is refused, not cut.
func TestLimits(t *testing.T) {
	digits := strings.Repeat("0123456789abcdef", 4)
	set := "%s=" + strings.Repeat("/0123456789abcdef,", 4000) + "\n"
	tests := []struct {
		name, format, text string
	}{
		{"too many bytes", "paths", strings.Repeat("#\n", MaxSourceBytes/2+1)},
		{"a set that grows", "fapolicyd", "%languages=a\n" + strings.Repeat("%languages+=b\n", 400_000) + "deny perm=any all : ftype=%languages\ndeny perm=any all : path=/x\n" +
			strings.Repeat("deny perm=any all : ftype=%languages\n", 50)},
		{"a scope that many rules are in", "tracee", "type: policy\nscope: [\"uid=" + strings.Repeat("1,", 500_000) + "2\"]\nrules:\n" + strings.Repeat("- event: open\n", 20)},
		{"many filters for many events", "tracee", "type: policy\nscope: []\nrules:\n- event: " + strings.Repeat("open,", 100_000) + "open\n  filters: [" + strings.Repeat("uid=1,", 5000) + "uid=1]\n"},
		{"too many rules", "fapolicyd", strings.Repeat("deny perm=any all : all\n", maxRules+1)},
		{"a set that many rules name", "fapolicyd", set + strings.Repeat("deny perm=any all : path=%s\n", 100_000)},
		{"more text than was read", "fapolicyd", strings.Repeat("/a 1 "+digits+"\n", 90_000)},
		{"rules that are all left out", "fapolicyd", strings.Repeat("deny perm=any all : trust=1\nallow perm=execute all : path=/x\n", 40_000)},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			o := testOptions()
			if tc.format == "paths" {
				o.Setting = "ReadOnlyPaths"
			}
			r, err := Import(tc.format, []Source{{"large", []byte(tc.text)}}, o)
			var ps rules.Problems
			if r != nil || !errors.As(err, &ps) || !strings.Contains(ps.Error(), "more than") {
				t.Errorf("got %v and the error %v, want a problem that says what there is more of", r != nil, err)
			}
		})
	}
}

// TestIDs: rules of one line, and of files with one name, have ids of their own, the same each time.
func TestIDs(t *testing.T) {
	im := importer{format: "santa", ids: map[string]int{}}
	var got []string
	for _, at := range []place{{"/a/B c.rules", 1}, {"/b/b-c.rules", 1}, {"b-c", 2}, {"\x1b[2J", 3}, {".rules", 4}, {strings.Repeat("x", 99) + ".csv", 5}, {"été.json", 6}} {
		got = append(got, im.id(at))
	}
	want := []string{"b-c-1", "b-c-1.2", "b-c-2", "2j-3", "santa-4", strings.Repeat("x", 40) + "-5", "t-6"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

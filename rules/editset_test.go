// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

const editable = `version: 1
default: allow
scope: {paths: [/srv]}
sets: # who may
  office: # and where
    # the first floor
    - 10.0.0.0/8
    - "2001:db8::/32" # v6

  tools:
  - /usr/bin/a
  - {prefix: /opt/tools}
  - '/x/*'
  flow: [1, 2]
rules:
- {id: a, events: [connect], args: {addr: "@office"}, verdict: deny}
- {id: b, events: [open], object: {path: "@tools"}, subject: {uid: "@flow"}, verdict: deny}
`

func TestEditSet(t *testing.T) {
	tests := map[string]struct {
		edit     SetEdit
		old, new string // what becomes what, and nothing else
		err      string
	}{
		"add":                  {SetEdit{Name: "office", Add: []string{"192.0.2.1", "::1"}}, "# v6\n", "# v6\n    - 192.0.2.1\n    - '::1'\n", ""},
		"add what is there":    {SetEdit{Name: "office", Add: []string{"10.0.0.0/8", "::1", "::1"}}, "# v6\n", "# v6\n    - '::1'\n", ""},
		"remove the last":      {SetEdit{Name: "office", Remove: []string{"2001:db8::/32"}}, "    - \"2001:db8::/32\" # v6\n", "", ""},
		"remove the first":     {SetEdit{Name: "office", Remove: []string{"10.0.0.0/8"}}, "    - 10.0.0.0/8\n", "", ""},
		"both":                 {SetEdit{Name: "office", Remove: []string{"2001:db8::/32"}, Add: []string{"::1"}}, "    - \"2001:db8::/32\" # v6\n", "    - '::1'\n", ""},
		"replace":              {SetEdit{Name: "office", Replace: true, Add: []string{"::1"}}, "    - 10.0.0.0/8\n    - \"2001:db8::/32\" # v6\n", "    - '::1'\n", ""},
		"replace by the same":  {SetEdit{Name: "tools", Replace: true, Add: []string{"/usr/bin/a"}}, "  - /usr/bin/a\n  - {prefix: /opt/tools}\n  - '/x/*'\n", "  - /usr/bin/a\n", ""},
		"odd bytes":            {SetEdit{Name: "tools", Add: []string{"/a\n\xff", "/it's", "-x", ""}}, "  - '/x/*'\n", "  - '/x/*'\n  - !!binary L2EK/w==\n  - '/it''s'\n  - '-x'\n  - ''\n", ""},
		"remove what is not":   {SetEdit{Name: "office", Remove: []string{"10.0.0.1"}}, "", "", `it has no value "10.0.0.1"`},
		"no such set":          {SetEdit{Name: "ofice", Add: []string{"::1"}}, "", "", "no set of this name"},
		"written on one line":  {SetEdit{Name: "flow", Add: []string{"3"}}, "", "", "a line for each value"},
		"other kinds are kept": {SetEdit{Name: "tools", Remove: []string{"/x/*", "/usr/bin/a"}}, "  - /usr/bin/a\n  - {prefix: /opt/tools}\n  - '/x/*'\n", "  - {prefix: /opt/tools}\n", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := EditSet([]byte(editable), tc.edit)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) || got != nil {
					t.Errorf("got %q, %v; want %q", got, err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Replace(editable, tc.old, tc.new, 1); want == editable || string(got) != want {
				t.Errorf("(-want +got):\n%s", cmp.Diff(want, string(got)))
			}
		})
	}
	if _, err := EditSet([]byte(editable), SetEdit{Name: "none"}); !errors.Is(err, ErrNoSet) {
		t.Errorf("%v, want ErrNoSet", err)
	}
	if got, err := SetValues([]byte(editable), "tools"); err != nil || !slices.Equal(got, []string{"/usr/bin/a", "{prefix: /opt/tools}", "/x/*"}) {
		t.Errorf("values %q, %v", got, err)
	}
}

// Whatever is added is there afterwards, and is gone when it is removed.
func TestEditSetRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) string {
			return "/" + string(rapid.SliceOfN(rapid.SampledFrom([]byte("ab/ '\"#:\n\t\x00\xffé{}[]*-!&|>%@`")), 0, 8).Draw(t, "bytes"))
		}), 1, 5, rapid.ID[string]).Draw(t, "values")
		added, err := EditSet([]byte(editable), SetEdit{Name: "tools", Add: values})
		if err != nil {
			t.Fatal(err)
		}
		got, err := SetValues(added, "tools")
		if err != nil {
			t.Fatalf("%v\n%s", err, added)
		}
		for _, v := range values {
			if !slices.Contains(got, v) {
				t.Fatalf("%q is not among %q\n%s", v, got, added)
			}
		}
		removed, err := EditSet(added, SetEdit{Name: "tools", Remove: values})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(values, "/usr/bin/a") && !slices.Contains(values, "/x/*") && string(removed) != editable {
			t.Fatalf("added and removed (-want +got):\n%s", cmp.Diff(editable, string(removed)))
		}
	})
}

// FuzzEditSet: no file brings it down, and a value that was added is the only thing that the set
// has more.
func FuzzEditSet(f *testing.F) {
	f.Add(editable, "office", "::1")
	f.Add("sets:\n a:\n - |\n  x\n - >-\n  y\n", "a", "z")
	f.Fuzz(func(t *testing.T, src, name, value string) {
		before, err := SetValues([]byte(src), name)
		if err != nil || slices.Contains(before, value) {
			return
		}
		out, err := EditSet([]byte(src), SetEdit{Name: name, Add: []string{value}})
		if err != nil {
			return
		}
		after, err := SetValues(out, name)
		if err != nil { // where a value of many lines ends is not always known: the push refuses the file
			return
		}
		if len(after) == len(before)+1 && after[len(before)] == value && !slices.Equal(after[:len(before)], before) {
			t.Fatalf("before %q, after %q\n%q\n%q", before, after, src, out)
		}
	})
}

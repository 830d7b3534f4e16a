// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// inParts reads every file in parts of a rule each, if that is how it can be read.
func inParts() version {
	v := current
	v.partsFrom, v.partBytes = 0, 1
	return v
}

// asAWhole reads no file in parts.
func asAWhole() version {
	v := current
	v.partsFrom = v.fileBytes + 1
	return v
}

// sameInParts fails unless src is the same file read as a whole, if it can be read in parts. It
// says whether it can be.
func sameInParts(t interface{ Fatalf(string, ...any) }, src string) bool {
	got := parseParts(inParts(), "f.yaml", []byte(src))
	if got == nil {
		return false
	}
	want, err := parseWith(asAWhole(), "f.yaml", []byte(src))
	if err != nil {
		t.Fatalf("read in parts, and as a whole it is wrong: %v\n%s", err, src)
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("in parts:\n%+v\nas a whole:\n%+v\n%s", got, want, src)
	}
	return true
}

func TestParts(t *testing.T) {
	rule := func(id string) string { return "- {id: " + id + ", events: [open], verdict: deny}\n" }
	tests := map[string]struct {
		src   string
		parts bool
	}{
		"a list":                 {head + "rules:\n" + rule("a") + rule("b"), true},
		"indented":               {head + "rules:\n  " + rule("a") + "  " + rule("b"), true},
		"comments and blanks":    {"# x\n" + head + "rules: # them\n\n# first\n" + rule("a") + "\n   # second\n\n" + rule("b") + "# end", true},
		"keys behind it":         {"version: 1\ndefault: allow\nrules:\n" + rule("a") + rule("b") + "\nscope: {paths: [/srv]}\n", true},
		"block rules":            {head + "rules:\n- id: a\n  events: [open]\n  object:\n    path:\n    - /x\n    - '/y*'\n  verdict: deny\n-\n  id: b\n  events:\n  - open\n  verdict: deny\n", true},
		"a text of many lines":   {head + "rules:\n- id: a\n  events: [open]\n  verdict: deny\n  message: |\n    x\n    - y\n    # z\n" + rule("b"), true},
		"carriage returns":       {strings.ReplaceAll(head+"rules:\n"+rule("a")+rule("b"), "\n", "\r\n"), true},
		"no rule":                {head + "rules:\n", false},
		"no rules":               {head, false},
		"one line":               {head + "rules: [{id: a, events: [open], verdict: deny}]\n", false},
		"a list below another":   {head + "scope: {paths: [/x]}\nrules:\n- - a\n", false},
		"a wrong rule":           {head + "rules:\n" + rule("a") + "- {id: b}\n", false},
		"the same id":            {head + "rules:\n" + rule("a") + rule("a"), false},
		"a wrong frame":          {"default: allow\nrules:\n" + rule("a"), false},
		"rules twice":            {head + "rules:\n" + rule("a") + "rules:\n" + rule("b"), false},
		"a quote over a cut":     {head + "rules:\n- {id: a, events: [open], verdict: deny, message: \"x\n- y\"}\n", false},
		"a quote around":         {"version: \"1\nrules:\n- x\"\n", false},
		"the key in a text":      {"sets: {x: [\"a\nrules:\n- {id: a, events: [open], verdict: deny}\n\"]}\n" + head, false},
		"a text below the key":   {head + "rules:\n- {id: a, events: [open], verdict: deny}\n" + rule("b") + "# z\n", true},
		"a second document":      {head + "rules:\n" + rule("a") + "---\n- b\n", false},
		"an anchor":              {head + "rules:\n- &x {id: a, events: [open], verdict: deny}\n", false},
		"a break only of YAML's": {head + "rules:\n- {id: a, events: [open], verdict: deny} #\r#\n" + rule("b"), false},
		"a tab":                  {head + "rules:\n" + rule("a") + "\t" + rule("b"), false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sameInParts(t, tc.src); got != tc.parts {
				t.Errorf("read in parts: %v, want %v", got, tc.parts)
			}
		})
	}
}

func TestPartsAreTheWhole(t *testing.T) {
	read := 0
	rapid.Check(t, func(t *rapid.T) {
		if sameInParts(t, genFile(t)) {
			read++
		}
	})
	if read == 0 {
		t.Error("nothing was ever read in parts")
	}
}

// FuzzParts: whatever can be read in parts is the same file read as a whole.
func FuzzParts(f *testing.F) {
	f.Add(head + "rules:\n- {id: a, events: [open], verdict: deny}\n-\n id: b\n events: open\n verdict: deny\n message: |\n  - x\n")
	f.Add(contractFile)
	f.Fuzz(func(t *testing.T, src string) {
		sameInParts(t, src)
	})
}

// A problem in a large file has its place in the file.
func TestProblemOfALargeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + "rules:\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], verdict: deny}\n", i)
	}
	b.WriteString("- {id: last, events: [opne], verdict: deny}\n")
	_, err := Parse("f.yaml", []byte(b.String()))
	if want := fmt.Sprintf("f.yaml:%d:23: rule last: unknown event opne", strings.Count(b.String(), "\n")); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestEmptyRule: one without anything in it is none, wherever it stands.
func TestEmptyRule(t *testing.T) {
	if _, err := Parse("f", []byte("{}")); err == nil {
		t.Error("a file without anything in it is read")
	}
	var b strings.Builder
	b.WriteString(head + "rules:\n- {}\n")
	for i := 0; b.Len() < current.partsFrom+current.partBytes; i++ {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], verdict: deny}\n", i)
	}
	if _, err := Parse("f", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "rule number 1 has no id") {
		t.Errorf("a large file that begins with an empty rule: %v, want that said", err)
	}
}

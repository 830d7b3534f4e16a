// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ruleFile returns a rule file with one rule per id, each refusing an exec.
func ruleFile(ids ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "  - id: %s\n    events: [exec]\n    object: {path: /t/%s}\n    verdict: deny\n", id, id)
	}
	return b.String()
}

// loadAs compiles a rule file; epoch 0 is the daemon's own.
func loadAs(t *testing.T, text string, epoch uint64) *RuleSet {
	t.Helper()
	rs, err := Load("a.yaml", []byte(text), Options{Epoch: epoch})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestDiff(t *testing.T) {
	abc := ruleFile("a", "b", "c")
	replace := func(old, new string) string {
		if !strings.Contains(abc, old) {
			t.Fatalf("the file does not have %q", old)
		}
		return strings.Replace(abc, old, new, 1)
	}
	for _, tt := range []struct {
		name          string
		before, after string
		want          Diff
	}{
		{"same", abc, abc, Diff{}},
		{"comments and blanks", abc, replace("  - id: b", "\n# why\n  - id:   b"), Diff{}},
		{"comment and a new rule", abc, replace("  - id: b", "# why\n  - id: b") + "  - {id: d, events: [exec], verdict: deny}\n",
			Diff{Added: []string{"d"}}},
		{"added in front", abc, ruleFile("x", "a", "b", "c"), Diff{Added: []string{"x"}}},
		{"removed", abc, ruleFile("a", "c"), Diff{Removed: []string{"b"}}},
		{"all others", abc, ruleFile("x", "y"), Diff{Added: []string{"x", "y"}, Removed: []string{"a", "b", "c"}}},
		{"another text", abc, replace("/t/b", "/t/bb"), Diff{Changed: []string{"b"}}},
		{"another text of the last", abc, replace("/t/c", "/t/cc"), Diff{Changed: []string{"c"}}},
		{"last to the front", abc, ruleFile("c", "a", "b"), Diff{Changed: []string{"c"}}},
		{"two change places", ruleFile("a", "b", "c", "d"), ruleFile("a", "d", "b", "c"), Diff{Changed: []string{"d"}}},
		{"renamed", abc, replace("id: b", "id: bb"), Diff{Added: []string{"bb"}, Removed: []string{"b"}}},
		{"default", abc, replace("default: allow", "default: deny"), Diff{Settings: true}},
		{"deadline", abc, replace("rules:", "deadline: 7ms\nrules:"), Diff{Settings: true}},
		{"on_fail", abc, replace("rules:", "on_fail: deny\nrules:"), Diff{Settings: true}},
		{"scope", abc, replace("[/t]", "[/t, /u]"), Diff{Settings: true}},
		{"settings behind the rules", abc, strings.Replace(abc, "default: allow\n", "", 1) + "default: deny\n", Diff{Settings: true}},
		{"sets", abc + "sets: {x: [/a, /b], y: [1], z: [[2, 3]]}\n", abc + "sets: {v: [7], z: [[2, 4]], x: [/b, /a]}\n",
			Diff{Added: []string{"@v"}, Removed: []string{"@y"}, Changed: []string{"@z"}}},
		{"sets behind a text that looks like them", ruleFile("a") + "  - {id: b, events: [open], verdict: deny, message: \"x\nsets: y\"}\nsets: {x: [1]}\n",
			ruleFile("a") + "  - {id: b, events: [open], verdict: deny, message: \"x\nsets: y\"}\nsets: {x: [2]}\n", Diff{Changed: []string{"@x"}}},
		{"sets behind a break only of YAML's", ruleFile("a") + "  - {id: b, events: [open], verdict: deny} #\rsets: {x: [1]}\n",
			ruleFile("a") + "  - {id: b, events: [open], verdict: deny} #\rsets: {x: [2]}\n", Diff{Changed: []string{"@x"}}},
		{"first rules", "", abc, Diff{Added: []string{"a", "b", "c"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := Nothing()
			if tt.before != "" {
				before = loadAs(t, tt.before, 1)
			}
			if diff := cmp.Diff(tt.want, Compare(before, loadAs(t, tt.after, 2))); diff != "" {
				t.Errorf("difference (-want +got):\n%s", diff)
			}
		})
	}
	if diff := cmp.Diff(Diff{Added: []string{"a", "b", "c"}}, Compare(nil, loadAs(t, abc, 1))); diff != "" {
		t.Errorf("difference to no rule set (-want +got):\n%s", diff)
	}
}

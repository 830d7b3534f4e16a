// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/rules"
)

func TestFailureWarnings(t *testing.T) {
	for _, tc := range []struct {
		name, settings, rule string
		bound                time.Duration
		want                 [][]string // the parts of each warning
	}{
		{"nothing is written", "", "", time.Millisecond, nil},
		{"a deadline that is kept", "deadline: 5ms\n", ", deadline: 4ms", 5 * time.Millisecond, nil},
		{"the file's deadline", "deadline: 6ms\n", "", 5 * time.Millisecond,
			[][]string{{"deadline of the file:", "5ms (wait)", "the file's on_fail, allow", "raise wait"}}},
		{"a rule's deadline", "on_fail: deny\n", ", deadline: 2s", 5 * time.Millisecond,
			[][]string{{"deadline of rule r0:", "the file's on_fail, deny EPERM"}}},
		{"a verdict that is never given", "", ", on_fail: deny", 5 * time.Millisecond,
			[][]string{{"on_fail of rule r0:", "without effect", "5ms (wait)", "the file's on_fail, allow"}}},
		{"a verdict for late answers", "", ", on_fail: deny, deadline: 1ms", 5 * time.Millisecond,
			[][]string{{"on_fail of rule r0:", "only where a worker answers late"}}},
		{"the file's own, repeated", "on_fail: deny\n", ", on_fail: deny", 5 * time.Millisecond, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rs, err := rules.Load("r", []byte("version: 1\ndefault: allow\n"+tc.settings+
				"scope: {paths: [/t]}\nrules: [{id: r0, events: [exec], verdict: deny"+tc.rule+"}]\n"), rules.Options{})
			if err != nil {
				t.Fatal(err)
			}
			got := failureWarnings(rs, "wait", tc.bound)
			if len(got) != len(tc.want) {
				t.Fatalf("warnings %q, want %d", got, len(tc.want))
			}
			for i, parts := range tc.want {
				for _, want := range parts {
					if !strings.Contains(got[i], want) {
						t.Errorf("warning %q lacks %q", got[i], want)
					}
				}
			}
		})
	}
}

// A file of many rules warns in a line.
func TestFailureWarningsAreShort(t *testing.T) {
	var text strings.Builder
	text.WriteString("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n")
	for i := range 1000 {
		fmt.Fprintf(&text, "  - {id: r%d, events: [exec], verdict: deny, deadline: 2s}\n", i)
	}
	rs, err := rules.Load("r", []byte(text.String()), rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	got := failureWarnings(rs, "hold_limit", time.Second)
	if len(got) != 1 || len(got[0]) > 400 || !strings.Contains(got[0], "and 995 more") {
		t.Errorf("warnings %q, want one short one that counts", got)
	}
}

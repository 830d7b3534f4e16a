// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// patched applies a unified diff without fuzz: every line that is there must be as the diff
// says.
func patched(old, diff string) (string, error) {
	lines := splitLines(old)
	var out []string
	done := 0 // lines of old that are through
	parts := strings.SplitAfter(diff, "\n")
	for i := 0; i < len(parts); i++ {
		line := parts[i]
		switch {
		case line == "", strings.HasPrefix(line, "--- a"), strings.HasPrefix(line, "+++ b"):
		case strings.HasPrefix(line, "@@ "):
			var from, count, to, toCount int
			if _, err := fmt.Sscanf(line, "@@ -%d,%d +%d,%d @@", &from, &count, &to, &toCount); err != nil {
				return "", fmt.Errorf("%q: %w", line, err)
			}
			if count > 0 {
				from--
			}
			if from < done || from > len(lines) {
				return "", fmt.Errorf("%q begins at %d, where %d are through", line, from, done)
			}
			out, done = append(out, lines[done:from]...), from
		default:
			text := line[1:]
			if i+1 < len(parts) && strings.HasPrefix(parts[i+1], `\ No newline`) {
				text = strings.TrimSuffix(text, "\n")
				i++
			}
			if line[0] != '+' {
				if done == len(lines) || lines[done] != text {
					return "", fmt.Errorf("%q is not the line after %d", line, done)
				}
				done++
			}
			if line[0] != '-' {
				out = append(out, text)
			}
		}
	}
	return strings.Join(append(out, lines[done:]...), ""), nil
}

func splitLines(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// TestDiffApplies wants that the diff of two texts makes the one into the other, whatever is
// in them, and that there is none of equal ones.
func TestDiffApplies(t *testing.T) {
	text := rapid.Custom(func(t *rapid.T) string {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "  - id: c", "-", "+", "--- x", "@@ -1,1 +1,1 @@", "\r", "\xff"}), 0, 30).Draw(t, "lines")
		text := strings.Join(lines, "\n")
		if rapid.Bool().Draw(t, "ends with a newline") {
			text += "\n"
		}
		return text
	})
	rapid.Check(t, func(t *rapid.T) {
		old, new := text.Draw(t, "old"), text.Draw(t, "new")
		diff := unified(ruleVersion{"a", []byte(old)}, ruleVersion{"b", []byte(new)})
		if (diff == "") != (old == new) {
			t.Fatalf("the diff of %q and %q is %q", old, new, diff)
		}
		if got, err := patched(old, diff); err != nil || got != new {
			t.Fatalf("%q with\n%s\nis %q, %v; want %q", old, diff, got, err, new)
		}
	})
}

func TestUserOfUID(t *testing.T) {
	for uid, want := range map[uint32]string{0: "0(root)", 4000000001: "4000000001"} {
		if got := uidText(uid); got != want {
			t.Errorf("uidText(%d) = %q, want %q", uid, got, want)
		}
	}
}

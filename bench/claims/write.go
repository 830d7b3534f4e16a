// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"io"
	"strings"
)

// Write prints the findings for a terminal: what became of each claim, by which figure, and where the
// documents say what does not hold.
func Write(w io.Writer, findings []Finding) error {
	var b strings.Builder
	count := map[Outcome]int{}
	for _, f := range findings {
		count[f.Outcome]++
		said := string(f.Outcome)
		if f.Outcome == DoesNotHold {
			said = "does NOT hold" // to be found among many
		}
		fmt.Fprintf(&b, "%-13s %s: %s\n", said, f.Claim.ID, f.Claim.Says)
		line := f.Found
		if f.Why != "" {
			line = strings.TrimPrefix(line+"; "+f.Why, "; ")
		}
		if f.From != "" {
			line += " (" + f.From + ")"
		}
		fmt.Fprintf(&b, "%13s %s\n", "", line)
		if f.Outcome == DoesNotHold {
			for _, q := range f.Claim.Quotes {
				fmt.Fprintf(&b, "%13s %s: %s\n", "", q.In, strings.Join(strings.Fields(q.Text), " "))
			}
		}
	}
	s := func(n int, one, many string) string {
		if n == 1 {
			return fmt.Sprintf("%d %s", n, one)
		}
		return fmt.Sprintf("%d %s", n, many)
	}
	fmt.Fprintf(&b, "\n%s: %s, %s, %d cannot be told\n", s(len(findings), "claim", "claims"), s(count[Holds], "holds", "hold"),
		s(count[DoesNotHold], "does not hold", "do not hold"), count[CannotTell])
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"

	"golang.org/x/perf/benchmath"

	"github.com/arbiterd/arbiter/bench"
)

// Write prints the comparison for a terminal: why it says nothing or little, a line for each statistic,
// and what to make of them.
func (r *Result) Write(w io.Writer, threshold float64) error {
	var b strings.Builder
	for _, why := range r.Warnings {
		fmt.Fprintf(&b, "differs: %s\n", why)
	}
	for _, why := range r.Blocked {
		fmt.Fprintf(&b, "no verdict: %s\n", why)
	}
	if len(r.Warnings)+len(r.Blocked) > 0 {
		b.WriteString("\n")
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\t\told\t\tnew\t\tchange\t")
	changed, total, few, open := 0, 0, false, false
	for _, row := range r.Rows {
		name := row.ID
		for _, c := range row.Changes {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, c.Statistic, bench.Span(int64(c.Old.Center)), spread(c.Old),
				bench.Span(int64(c.New.Center)), spread(c.New), r.verdict(c), c.evidence())
			name = ""
			total++
			few = few || c.Outcome == TooFew
			open = open || math.IsInf(c.Old.Hi, 0) || math.IsInf(c.New.Hi, 0)
			if c.Outcome == Slower || c.Outcome == Faster {
				changed++
			}
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	for _, row := range r.Rows {
		if row.Why != "" {
			fmt.Fprintf(&b, "not compared: %s: %s\n", row.ID, row.Why)
		}
	}
	b.WriteString("\n")
	if few {
		fmt.Fprintf(&b, "? too few rounds for any difference to be significant: measure both with --rounds %d at least\n", r.RoundsNeeded)
	}
	if open {
		b.WriteString("± ∞: a confidence interval takes 6 rounds\n")
	}
	r.conclude(&b, changed, total, threshold)
	_, err := io.WriteString(w, b.String())
	if err != nil {
		return fmt.Errorf("writing the comparison: %w", err)
	}
	return nil
}

// conclude writes the last lines.
func (r *Result) conclude(b *strings.Builder, changed, total int, threshold float64) {
	if len(r.Blocked) > 0 {
		b.WriteString("no verdict: see above\n")
		return
	}
	if !r.Told() {
		b.WriteString("no verdict: too few rounds\n")
		return
	}
	fmt.Fprintf(b, "%d of %d figures differ at p ≤ %v, as one in twenty does by chance where nothing has changed\n", changed, total, Alpha)
	slower := r.Slower(threshold)
	if len(slower) == 0 {
		fmt.Fprintf(b, "no significant slow-down of more than %.4g %%\n", 100*threshold)
		return
	}
	fmt.Fprintf(b, "slower by more than %.4g %%: %s\n", 100*threshold, strings.Join(slower, ", "))
}

// verdict is the change: ~ where it is not significant, ? where it cannot be, - where the runs say nothing.
func (r *Result) verdict(c Change) string {
	switch {
	case len(r.Blocked) > 0:
		return "-"
	case c.Outcome == TooFew:
		return "?"
	case c.Outcome == Same:
		return "~"
	}
	return percent(c.Delta)
}

// evidence is what the verdict rests on.
func (c Change) evidence() string {
	n := fmt.Sprintf("n=%d", c.OldN)
	if c.OldN != c.NewN {
		n = fmt.Sprintf("n=%d+%d", c.OldN, c.NewN)
	}
	if c.AllEqual {
		return "(all equal, " + n + ")"
	}
	return fmt.Sprintf("(p=%.3f, %s)", c.P, n)
}

func percent(share float64) string { return fmt.Sprintf("%+.1f %%", 100*share) }

// spread is the confidence interval around a median.
func spread(s benchmath.Summary) string {
	return "± " + strings.Replace(s.PctRangeString(), "%", " %", 1)
}

// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

// Table is the figures of a run, for a page or a document.
type Table struct {
	Head []string
	Rows []TableRow
}

// TableRow has a cell for each column, or two cells and the reason why there are no figures.
type TableRow struct {
	Cells []string
	Why   string
}

// Table returns the figures of the scenarios, nil for a daemon, which has none.
func (r *Run) Table() *Table {
	if r.Run == nil {
		return nil
	}
	counted := slices.ContainsFunc(r.Run.Scenarios, func(s bench.ScenarioReport) bool { return figures(s.Figures) != "" })
	t := &Table{Head: []string{"mechanism", "what answers", "p50", "p90", "p99", "p99.9", "max", "samples", "failed"}}
	if r.Kind == bench.KindRules {
		t.Head[0], t.Head[1] = "engine", "what"
	}
	if counted {
		t.Head = append(t.Head, "counted")
	}
	for i := range r.Run.Scenarios {
		s := &r.Run.Scenarios[i]
		row := TableRow{Cells: []string{string(s.Mechanism), (&row{ScenarioReport: s}).label()}}
		switch why := s.Overrun(); {
		case s.Status == bench.Measured && why != "":
			row.Why = why
		case s.Status == bench.Measured:
			m := s.Median
			row.Cells = append(row.Cells, bench.Span(m.P50), bench.Span(m.P90), bench.Span(m.P99), bench.Span(m.P999), bench.Span(s.Merged.Max),
				thousands(int64(s.Samples)), strconv.Itoa(s.Failed))
			if counted {
				row.Cells = append(row.Cells, figures(s.Figures))
			}
		case s.Status == bench.NotApplicable:
			row.Why = "not applicable: " + s.Reason
		default:
			row.Why = string(s.Status) + ": " + s.Reason
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// figures prints what a row has counted, by name.
func figures(list map[string]float64) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		v := strconv.FormatFloat(list[name], 'g', 4, 64)
		if n := int64(list[name]); float64(n) == list[name] {
			v = thousands(n)
		}
		if name != figureRate { // the label has it
			out = append(out, strings.ReplaceAll(name, "_", " ")+" "+v)
		}
	}
	return strings.Join(out, ", ")
}

// Markdown writes the facts, what the run says, and its figures.
func (r *Run) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, why := range r.Noisy() {
		fmt.Fprintf(&b, "**Noisy, do not rely on it:** %s.\n\n", cell(why))
	}
	if r.Machine.Emulated() {
		b.WriteString("**Emulated, only ratios mean something.**\n\n")
	}
	for _, f := range r.Facts() {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, cell(f.Text))
	}
	for i, c := range r.Conclusions() {
		if i == 0 {
			b.WriteString("\n| claim | in this run | measured |\n|---|---|---|\n")
		}
		found := c.Found
		if c.Why != "" {
			found += " (" + c.Why + ")"
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(c.Claim), c.Outcome, cell(found))
	}
	if list := r.Comparisons(); len(list) > 0 {
		fmt.Fprintf(&b, "\n- %s\n", strings.Join(list, "\n- "))
	}
	if t := r.Table(); t != nil {
		const texts, numbers = 2, 7 // columns; what was counted is a text again
		fmt.Fprintf(&b, "\n| %s |\n|%s%s%s\n", strings.Join(t.Head, " | "), strings.Repeat("---|", texts), strings.Repeat("---:|", numbers),
			strings.Repeat("---|", len(t.Head)-texts-numbers))
		for _, row := range t.Rows {
			b.WriteString("|")
			for _, c := range row.Cells {
				b.WriteString(" " + cell(c) + " |")
			}
			if row.Why != "" { // in the place of the figures
				fmt.Fprintf(&b, " %s |%s", cell(row.Why), strings.Repeat(" |", len(t.Head)-3))
			}
			b.WriteString("\n")
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("writing the table of %s: %w", r.Name, err)
	}
	return nil
}

// cell makes a text fit for a table of Markdown.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", ">", "&gt;").Replace(s)
}

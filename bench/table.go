// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// micros prints nanoseconds as microseconds with three significant digits or so:
// what differs between two runs anyway is left out.
func micros(ns int64) string { return figure(ns) + " µs" }

func figure(ns int64) string {
	us := float64(ns) / 1000
	switch {
	case us < 9.995:
		return strconv.FormatFloat(us, 'f', 2, 64)
	case us < 99.95:
		return strconv.FormatFloat(us, 'f', 1, 64)
	}
	return strconv.FormatFloat(us, 'f', 0, 64)
}

// truncated cuts a factor to one decimal: a bar that was missed by a hair must not
// look met.
func truncated(f float64) float64 { return math.Floor(f*10) / 10 }

// WriteTable writes the report for a terminal: the machine, a row per scenario in
// microseconds, the comparison in the last lines.
func (r *Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d samples each, requester on CPU %d%s\n\n",
		r.Options.Rounds, r.Options.Samples, r.Options.CPUs[0], otherCPU(r.Options.CPUs))

	lines := [][]string{{"mechanism", "responder", "p50 µs", "p90", "p99", "p99.9", "max", "added p50", "samples", "failed"}}
	for _, s := range r.Scenarios {
		lines = append(lines, tableRow(&s))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	r.writeStages(&b)
	r.writeVerdict(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func otherCPU(cpus []int) string {
	if len(cpus) < 2 {
		return ", no other CPU"
	}
	return fmt.Sprintf(", the other CPU is %d", cpus[1])
}

func tableRow(s *ScenarioReport) []string {
	l := []string{string(s.Mechanism), s.Responder}
	switch s.Status {
	case Measured:
		added := "-"
		if s.AddedP50NS != nil {
			added = figure(*s.AddedP50NS)
		}
		m := s.Median
		return append(l, figure(m.P50), figure(m.P90), figure(m.P99), figure(m.P999), figure(s.Merged.Max), added,
			strconv.Itoa(s.Samples), strconv.Itoa(s.Failed))
	case NotApplicable:
		return append(l, "not applicable: "+s.Reason)
	}
	return append(l, string(s.Status)+": "+s.Reason)
}

// joinCells aligns the first two columns left and the figures right.
func joinCells(l []string, width []int) string {
	var b strings.Builder
	for i, cell := range l {
		pad := strings.Repeat(" ", max(width[i]-utf8.RuneCountInString(cell), 0))
		switch {
		case i == 0:
			b.WriteString(cell + pad)
		case i == 1 || len(l) < len(width):
			b.WriteString("  " + cell + pad)
		default:
			b.WriteString("  " + pad + cell)
		}
	}
	return b.String()
}

func (r *Report) writeVerdict(b *strings.Builder) {
	v := &r.Verdict
	for _, why := range v.Noisy {
		fmt.Fprintf(b, "noisy: %s\n", why)
	}
	row := func(id string) *ScenarioReport {
		for i := range r.Scenarios {
			if r.Scenarios[i].ID == id {
				return &r.Scenarios[i]
			}
		}
		return nil
	}
	native := row(v.Native)
	if native != nil {
		bar := v.P50Bar
		switch {
		case len(v.Noisy) > 0:
			bar += ": noisy machine"
		case bar == CannotTell:
			bar += ": " + v.Why
		}
		fmt.Fprintf(b, "native queue p50 %s; ≤ %s bar: %s\n", micros(native.Median.P50), micros(P50BarNS), bar)
	}
	var whole, added []string
	for _, o := range []struct {
		name         string
		row          *ScenarioReport
		whole, added float64
	}{
		{"fanotify", row(v.Fanotify), v.FanotifyFactor, v.FanotifyAddedFactor},
		{"seccomp", row(v.Seccomp), v.SeccompFactor, v.SeccompAddedFactor},
		{"ptrace", row(v.Ptrace), v.PtraceFactor, v.PtraceAddedFactor},
	} {
		if o.row == nil || o.whole == 0 {
			continue
		}
		whole = append(whole, fmt.Sprintf(": best %s p50 (%s) = 1 : %.1f", o.name, o.row.Responder, truncated(o.whole)))
		if o.added != 0 {
			added = append(added, fmt.Sprintf(": what %s adds = 1 : %.1f", o.name, truncated(o.added)))
		}
	}
	if len(added) > 0 {
		fmt.Fprintf(b, "native queue p50 %s\n", strings.Join(added, ", "))
	}
	if len(whole) > 0 {
		fmt.Fprintf(b, "native queue p50 %s; ", strings.Join(whole, ", "))
	}
	bar := v.Bar
	if bar == CannotTell {
		bar += ": " + v.Why
	}
	fmt.Fprintf(b, "≥%dx bar: %s\n", FactorBar, bar)
	for i := range v.Bars {
		fmt.Fprintln(b, v.Bars[i].String())
	}
	writeAdded(b, v.Added)
}

// writeAdded writes a line for each comparison of what is added.
func writeAdded(b *strings.Builder, list []Factor) {
	for _, f := range list {
		fmt.Fprintf(b, "what %s adds : what %s adds, p50 = 1 : %.2f\n", f.Ours, f.Theirs, math.Floor(f.Factor*100)/100)
	}
}

// writeAligned writes lines of cells in columns, the first one of which is the head. A line with
// fewer cells has a reason in the place of figures.
func writeAligned(b *strings.Builder, lines [][]string) {
	width := make([]int, len(lines[0]))
	for _, l := range lines {
		if len(l) < len(width) {
			l = l[:2] // the rest is a reason
		}
		for i, cell := range l {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for _, l := range lines {
		b.WriteString(strings.TrimRight(joinCells(l, width), " ") + "\n")
	}
}

// writeEmpty says of rows that rounds are missing in them.
func (r *Report) writeEmpty(b *strings.Builder) {
	for i := range r.Scenarios {
		if why := r.Scenarios[i].Empty(); why != "" && r.Scenarios[i].Status == Measured {
			b.WriteString(why + "\n")
		}
	}
}

// writeStages says where the time of a verdict goes, if that was measured.
func (r *Report) writeStages(b *strings.Builder) {
	row := measuredRows(r)[stagesID]
	if row == nil || row.Figures == nil {
		return
	}
	var parts []string
	for _, name := range stageNames {
		parts = append(parts, fmt.Sprintf("%s %.0f", name, row.Figures[FigureStage(name)]))
	}
	fmt.Fprintf(b, "stages, ns at p50, a look at the clock in each (%d ns): %s\n", r.Machine.ClockReadNS, strings.Join(parts, ", "))
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// workBudget bounds a round: a few runs of a build, on a busy or an emulated machine.
const workBudget = 3 * time.Minute

// WorkReport is one run of programs with and without the daemon. There is no bar: what is
// added depends on how much of its time a program opens files.
type WorkReport struct {
	*Report
	Verdict WorkVerdict `json:"verdict"`
}

// WorkVerdict says how quiet the machine was.
type WorkVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to compare
}

// RunWork is Run for the scenarios of Work, with a few samples in each round.
func RunWork(ctx context.Context, o Options) (*WorkReport, error) {
	if o.RoundBudget == 0 {
		o.RoundBudget = workBudget
	}
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	return &WorkReport{r, WorkVerdict{noisy(r.Machine)}}, err
}

// WriteJSON writes the report, indented, with a final newline.
func (r *WorkReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal.
func (r *WorkReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d times each\n\n", r.Options.Rounds, min(r.Options.Samples, workRuns))
	times := "p50 ms"
	if r.Machine.Emulated() {
		times = "p50 multiple"
	}
	lines := [][]string{{"who", "what", times, "half the rounds", "max", "added p50", "added %", "asked", "verdicts", "kernel hits", "failed", "runs"}}
	rows := measuredRows(r.Report)
	for i := range r.Scenarios {
		lines = append(lines, workRow(&r.Scenarios[i], rows, r.Machine.Emulated()))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	for _, why := range r.Verdict.Noisy {
		fmt.Fprintf(&b, "\nnoisy: %s", why)
	}
	if len(r.Verdict.Noisy) > 0 {
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// workRow has milliseconds, or multiples of the baseline where there are no times.
func workRow(s *ScenarioReport, rows map[string]*ScenarioReport, emulated bool) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	figure := func(ns int64) string { return strconv.FormatFloat(float64(ns)/1e6, 'f', 1, 64) }
	if emulated {
		if figure = multiplesOf(s, rows); figure == nil {
			return append(l, "measured, but "+s.Baseline+" was not")
		}
	}
	added, share := "-", "-"
	if base := rows[s.Baseline]; base != nil {
		added = figure(*s.AddedP50NS)
		share = strconv.FormatFloat(100*float64(*s.AddedP50NS)/float64(max(base.Median.P50, 1)), 'f', 1, 64)
	}
	least, most := middleP50(s)
	l = append(l, figure(s.Median.P50), figure(least)+"-"+figure(most), figure(s.Merged.Max), added, share)
	for _, name := range []string{FigureAsked, FigureVerdicts, FigureKernelHits, FigureFailures} {
		count := "-"
		if s.Figures != nil {
			count = strconv.FormatFloat(s.Figures[name], 'f', 0, 64)
		}
		l = append(l, count)
	}
	return append(l, strconv.Itoa(s.Samples))
}

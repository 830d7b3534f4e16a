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

const (
	// BootBarNS is what all verdicts of a boot may take together.
	BootBarNS = 300_000_000
	// bootBudget bounds a round: a boot by the slowest opponent, on a busy machine.
	bootBudget = 30 * time.Second
	// slowVerdict is what a verdict by another process takes of old, for comparison.
	slowVerdict = 50 * time.Microsecond
)

// BootReport is one run of the comparison of boots.
type BootReport struct {
	*Report
	Verdict BootVerdict `json:"verdict"`
}

// BootVerdict is what a run says about the bar.
type BootVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	Bars  []Bar    `json:"bars"`
}

// RunBoot is Run for the scenarios of Boot. A sample is an event: with fewer than BootEvents
// the boot has as many, in the same proportions, and its times are scaled up.
func RunBoot(ctx context.Context, o Options) (*BootReport, error) {
	if o.Samples == 0 {
		o.Samples = BootEvents
	}
	if o.RoundBudget == 0 {
		o.RoundBudget = bootBudget
	}
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	return &BootReport{r, judgeBoot(r)}, err
}

func judgeBoot(r *Report) BootVerdict {
	v := BootVerdict{Noisy: noisy(r.Machine)}
	boots := []string{bootID}
	v.Bars = judgeBars(r, []barOf{{name: fmt.Sprintf("all verdicts of a boot of %s events", thousands(BootEvents)), unit: "ns", limit: BootBarNS, nature: timed,
		rows: boots, value: worst(boots, figureOf(FigureBoot))}, failures("failure verdicts in all boots", boots)}, v.Noisy)
	return v
}

// WriteJSON writes the report, indented, with a final newline.
func (r *BootReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal.
func (r *BootReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %s events each, requester on CPU %d%s\n\n",
		r.Options.Rounds, thousands(r.Options.Samples), r.Options.CPUs[0], otherCPU(r.Options.CPUs))
	lines := [][]string{{"mechanism", "responder", "boot ms", "added", "p50 µs", "p99", "p99.9", "max", "misses %", "samples", "failed"}}
	rows := measuredRows(r.Report)
	for i := range r.Scenarios {
		lines = append(lines, bootRow(&r.Scenarios[i], rows))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	writeBars(&b, r.Verdict.Noisy, r.Verdict.Bars)
	fmt.Fprintf(&b, "%s verdicts of %v each would be %.2f s\n", thousands(BootEvents), slowVerdict, (BootEvents * slowVerdict).Seconds())
	_, err := io.WriteString(w, b.String())
	return err
}

// bootRow has the time of a boot and, less that of the baseline, what asking adds to it.
func bootRow(s *ScenarioReport, rows map[string]*ScenarioReport) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	millis := func(ns float64) string { return strconv.FormatFloat(ns/1e6, 'f', 1, 64) }
	added, misses := "-", "-"
	if base := rows[s.Baseline]; base != nil {
		added = millis(s.Figures[FigureBoot] - base.Figures[FigureBoot])
	} else if s.ID == bootID {
		added = millis(s.Figures[FigureBoot])
		misses = strconv.FormatFloat(100*s.Figures[FigureMisses], 'f', 1, 64)
	}
	m := s.Median
	return append(l, millis(s.Figures[FigureBoot]), added, figure(m.P50), figure(m.P99), figure(m.P999), figure(s.Merged.Max), misses,
		strconv.Itoa(s.Samples), strconv.Itoa(s.Failed))
}

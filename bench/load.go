// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	// LoadSamples is the default of Options.Samples for RunLoad.
	LoadSamples = 100_000
	// FigureOffered is the name of how many asks a second a row is offered.
	FigureOffered = "offered_per_second"
	// FigureShort is the name of the share of them that was not served in time, in the worst
	// round: 0.1 of 100,000 a second means that 90,000 were.
	FigureShort = "short_of_offered"
	// keptShort is what a row that keeps its rate may be short of it.
	keptShort = 0.05
)

// LoadReport is one run of the comparison under load.
type LoadReport struct {
	*Report
	Verdict LoadVerdict `json:"verdict"`
}

// LoadVerdict compares the tails. There is no bar.
type LoadVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	// P99 are, for each rate, how many times the queue's p99 goes into the lowest one
	// of each opponent that keeps the rate.
	P99 []Factor `json:"p99_factors,omitempty"`
}

// RunLoad is Run for the scenarios of Load.
func RunLoad(ctx context.Context, o Options) (*LoadReport, error) {
	if o.Samples == 0 {
		o.Samples = LoadSamples
	}
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	return &LoadReport{r, judgeLoad(r)}, err
}

func judgeLoad(r *Report) LoadVerdict {
	v := LoadVerdict{Noisy: noisy(r.Machine)}
	if len(v.Noisy) > 0 {
		return v
	}
	for _, rate := range loadRates {
		native := quickest(r, NativeQueue, rate)
		for _, m := range []Mechanism{Fanotify, Seccomp} {
			if theirs := quickest(r, m, rate); native != nil && theirs != nil && native.Median.P99 > 0 {
				v.P99 = append(v.P99, Factor{Ours: native.ID, Theirs: theirs.ID, Factor: p99(theirs) / p99(native)})
			}
		}
	}
	return v
}

// quickest returns the row of the mechanism that keeps the rate with the lowest p99.
func quickest(r *Report, m Mechanism, rate int) *ScenarioReport {
	kept := &Report{}
	for i := range r.Scenarios {
		if s := &r.Scenarios[i]; s.Status == Measured && s.Figures[FigureOffered] == float64(rate) && keeps(s) && s.Doubt() == "" {
			kept.Scenarios = append(kept.Scenarios, *s)
		}
	}
	return lowest(kept, m, p99)
}

func keeps(s *ScenarioReport) bool { return s.Figures[FigureShort] <= keptShort }

// Overrun says of a row that was offered more than it served that its percentiles say nothing but how long
// the round was; it returns "" for any other row.
func (s *ScenarioReport) Overrun() string {
	if keeps(s) {
		return ""
	}
	offered := s.Figures[FigureOffered]
	return fmt.Sprintf("does not keep %.0f/s: served %.0f/s, and who asks waits longer and longer", offered, offered*(1-s.Figures[FigureShort]))
}

// WriteJSON writes the report, indented, with a final newline.
func (r *LoadReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal.
func (r *LoadReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d asks each, at most %v of them, requester on CPU %d%s\n\n",
		r.Options.Rounds, r.Options.Samples, loadTime, r.Options.CPUs[0], otherCPU(r.Options.CPUs))
	lines := [][]string{{"mechanism", "responder", "offered/s", "p50 µs", "p90", "p99", "p99.9", "max", "samples", "failed"}}
	for i := range r.Scenarios {
		lines = append(lines, loadRow(&r.Scenarios[i]))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	writeBars(&b, r.Verdict.Noisy, nil)
	for _, f := range r.Verdict.P99 {
		fmt.Fprintf(&b, "%s p99 : %s p99 = 1 : %.1f\n", f.Ours, f.Theirs, truncated(f.Factor))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func loadRow(s *ScenarioReport) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	if why := s.Overrun(); why != "" {
		return append(l, why)
	}
	m := s.Median
	return append(l, strconv.FormatFloat(s.Figures[FigureOffered], 'f', 0, 64), figure(m.P50), figure(m.P90), figure(m.P99), figure(m.P999), figure(s.Merged.Max),
		strconv.Itoa(s.Samples), strconv.Itoa(s.Failed))
}

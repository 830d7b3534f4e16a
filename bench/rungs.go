// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// rungBudget bounds a round: hundreds of calls on an emulated machine.
const rungBudget = time.Minute

// RungsReport is one run of the rungs of the wait ladder. There is no bar: what is known of
// the hooks that lock is known of an emulated machine, whose times mean nothing.
type RungsReport struct {
	*Report
	Verdict RungsVerdict `json:"verdict"`
}

// rungSpread is how many times the lowest p50 of the middle half of the rounds may go into the
// highest one, of a row that is compared.
const rungSpread = 1.5

// RungsVerdict compares what the rungs add to their calls.
type RungsVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to compare
	// Added are of p50: how many times what ours adds to its call goes into what theirs adds to
	// its own. Ours is the sleep on the same CPU.
	Added    []Factor `json:"added_factors,omitempty"`
	Unsteady []string `json:"unsteady,omitempty"` // rows whose rounds differ too much for that
}

// RunRungs is Run for the scenarios of Rungs.
func RunRungs(ctx context.Context, o Options) (*RungsReport, error) {
	if o.RoundBudget == 0 {
		o.RoundBudget = rungBudget
	}
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	r.Machine.OthersPercent = nil // the callers are other processes
	return &RungsReport{r, judgeRungs(r)}, err
}

func judgeRungs(r *Report) RungsVerdict {
	v := RungsVerdict{Noisy: noisy(r.Machine)}
	var steady []*ScenarioReport
	var ours *ScenarioReport
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Status != Measured {
			continue
		}
		if least, most := middleP50(s); float64(most) > rungSpread*float64(least) {
			v.Unsteady = append(v.Unsteady, s.ID)
			continue
		}
		if s.AddedP50NS == nil || slices.Contains(v.Unsteady, s.Baseline) {
			continue
		}
		if s.ID == rungSleepID && *s.AddedP50NS > 0 {
			ours = s
			continue
		}
		steady = append(steady, s)
	}
	if ours == nil {
		return v
	}
	for _, s := range steady {
		v.Added = append(v.Added, Factor{ours.ID, s.ID, float64(*s.AddedP50NS) / float64(*ours.AddedP50NS)})
	}
	return v
}

// WriteJSON writes the report, indented, with a final newline.
func (r *RungsReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal, with multiples in the place of times.
func (r *RungsReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d calls each, the caller on CPU %d%s\n", r.Options.Rounds, min(r.Options.Samples, rungSamples), r.Options.CPUs[0], otherCPU(r.Options.CPUs))
	fmt.Fprintf(&b, "figures    multiples of the p50 of the same call when nobody is asked\n\n")
	lines := [][]string{{"mechanism", "call", "p50", "half the rounds", "p90", "p99", "samples", "left out", "asked", "unwound", "slept"}}
	rows := measuredRows(r.Report)
	for i := range r.Scenarios {
		lines = append(lines, rungRow(&r.Scenarios[i], rows))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	v := &r.Verdict
	for _, why := range v.Noisy {
		fmt.Fprintf(&b, "noisy: %s\n", why)
	}
	for _, f := range v.Added {
		fmt.Fprintf(&b, "what %s adds : what %s adds, p50 = 1 : %.2f\n", f.Ours, f.Theirs, f.Factor)
	}
	for _, id := range v.Unsteady {
		fmt.Fprintf(&b, "%s: p50 differs more than %.1f-fold between the rounds in the middle, so it is not compared\n", id, rungSpread)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func rungRow(s *ScenarioReport, rows map[string]*ScenarioReport) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	of := multiplesOf(s, rows)
	if of == nil {
		return append(l, "measured, but "+s.Baseline+" was not")
	}
	least, most := middleP50(s)
	l = append(l, of(s.Median.P50), of(least)+"-"+of(most), of(s.Median.P90), of(s.Median.P99), strconv.Itoa(s.Samples))
	if s.Mechanism == Baseline {
		return append(l, "-", "-", "-", "-")
	}
	for _, name := range []string{FigureLeftOut, FigureAsked, FigureUnwound, FigureSlept} {
		l = append(l, strconv.FormatFloat(s.Figures[name], 'f', 0, 64))
	}
	return l
}

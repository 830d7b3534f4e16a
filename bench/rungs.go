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

// RungsReport is one run of the rungs of the wait ladder. The one bar is a factor: the hooks are known
// of an emulated machine, which has no times.
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
	Bars     []Bar    `json:"bars"`
}

// rungBar compares the sleep in a hook with what it is instead of, both by what they add to an open.
func rungBar() barOf {
	return barOf{name: "what a sleep in the hook of an open adds : what a blocking fanotify event adds, p50, same CPU", limit: 1, nature: ratio,
		rows: []string{rungSleepID, rungPrefix + callOpen, rungFanotifyID},
		value: func(rows map[string]*ScenarioReport) float64 {
			return float64(*rows[rungSleepID].AddedP50NS) / float64(max(*rows[rungFanotifyID].AddedP50NS, 1))
		}}
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
	return &RungsReport{r, judgeRungs(r)}, err
}

func judgeRungs(r *Report) RungsVerdict {
	bar := rungBar()
	v := RungsVerdict{Noisy: noisy(r.Machine)}
	v.Bars = judgeBars(r, []barOf{bar}, v.Noisy)
	if len(v.Noisy) > 0 {
		return v
	}
	rows := measuredRows(r)
	b := &v.Bars[0]
	cannot := func(why string) {
		if b.Outcome != CannotTell {
			b.Outcome, b.Why = CannotTell, why
		}
	}
	if len(addedFactor(rows, rungSleepID, rungFanotifyID)) == 0 {
		cannot("one of them added nothing")
	}
	var steady []string
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Status != Measured {
			continue
		}
		if least, most := middleP50(s); float64(most) > rungSpread*float64(least) {
			v.Unsteady = append(v.Unsteady, s.ID)
			if slices.Contains(bar.rows, s.ID) {
				cannot(s.ID + " differs too much between its rounds")
			}
			continue
		}
		if s.AddedP50NS != nil && !slices.Contains(v.Unsteady, s.Baseline) {
			steady = append(steady, s.ID)
		}
	}
	if !slices.Contains(steady, rungSleepID) {
		return v
	}
	for _, id := range steady {
		if id != rungSleepID {
			v.Added = append(v.Added, addedFactor(rows, rungSleepID, id)...)
		}
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
	writeBars(&b, v.Noisy, v.Bars)
	writeAdded(&b, v.Added)
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
	if s.Mechanism != LSMHook {
		return append(l, "-", "-", "-", "-")
	}
	for _, name := range []string{FigureLeftOut, FigureAsked, FigureUnwound, FigureSlept} {
		l = append(l, strconv.FormatFloat(s.Figures[name], 'f', 0, 64))
	}
	return l
}

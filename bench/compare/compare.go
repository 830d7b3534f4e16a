// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/perf/benchmath"

	"github.com/arbiterd/arbiter/bench"
)

const (
	// Alpha is how often a scenario that has not changed may look as if it had.
	Alpha = 0.05
	// DefaultThreshold is the slow-down, as a share, from which on it is one: runs of the same program
	// differ by as much.
	DefaultThreshold = 0.10
	// confidence is that of the intervals around the medians.
	confidence = 0.95
)

// Outcome is what became of a figure.
type Outcome string

// The outcomes. TooFew: with so few rounds even the largest difference is not significant.
const (
	Same   Outcome = "same" // or not told apart
	Faster Outcome = "faster"
	Slower Outcome = "slower"
	TooFew Outcome = "too few rounds"
)

// Change is one statistic of one scenario in both runs. Times are nanoseconds.
type Change struct {
	Statistic string // p50 or p99
	Old, New  benchmath.Summary
	// Delta is the new median less the old one, as a share of the old one.
	Delta    float64
	P        float64 // the chance of such a difference, or a larger one, where there is none
	OldN     int     // rounds
	NewN     int
	Outcome  Outcome
	AllEqual bool // every round of both had the same value
}

// Row is a scenario of either run.
type Row struct {
	ID      string
	Changes []Change
	Why     string // it cannot be compared, with the reason
}

// Result is the comparison of two runs.
type Result struct {
	Rows []Row
	// Warnings are differences that may be what is compared, such as the kernel. Blocked is why
	// the figures say nothing: another machine, other options, noise.
	Warnings, Blocked []string
	// RoundsNeeded is how many rounds each run needs for a difference to be significant.
	RoundsNeeded int
}

// ErrNotComparable is wrapped by the errors of Compare: the reports have no scenario in common, or are of
// different kinds.
var ErrNotComparable = errors.New("the reports cannot be compared")

// Compare compares two runs, of the scenarios in only, nil for all.
func Compare(before, after *bench.Saved, only []string) (*Result, error) {
	if before.Kind != after.Kind {
		return nil, fmt.Errorf("%w: one is of %s, the other one of %s", ErrNotComparable, before.Kind, after.Kind)
	}
	if before.Run == nil {
		return nil, fmt.Errorf("%w: a report of a %s has no rounds", ErrNotComparable, before.Kind)
	}
	for _, id := range only {
		if before.Row(id) == nil && after.Row(id) == nil {
			return nil, fmt.Errorf("%w: neither has a scenario %q", ErrNotComparable, id)
		}
	}
	r := &Result{RoundsNeeded: roundsNeeded()}
	r.look(before, after)
	var ids []string
	for _, side := range []*bench.Saved{before, after} {
		for _, s := range side.Run.Scenarios {
			if !slices.Contains(ids, s.ID) && (only == nil || slices.Contains(only, s.ID)) {
				ids = append(ids, s.ID)
			}
		}
	}
	compared := false
	for _, id := range ids {
		row := compareRows(id, before.Row(id), after.Row(id))
		compared = compared || row.Why == ""
		r.Rows = append(r.Rows, row)
	}
	if !compared {
		return nil, fmt.Errorf("%w: no scenario was measured in both", ErrNotComparable)
	}
	return r, nil
}

// Told reports whether the comparison says anything: the runs are comparable, and have the rounds for it.
func (r *Result) Told() bool {
	return len(r.Blocked) == 0 && slices.ContainsFunc(r.Rows, func(row Row) bool {
		return slices.ContainsFunc(row.Changes, func(c Change) bool { return c.Outcome != TooFew && (!c.AllEqual || leastP(c.OldN, c.NewN) <= Alpha) })
	})
}

// Slower returns the changes for the worse by more than the threshold, a share. It is nil where the
// runs say nothing.
func (r *Result) Slower(threshold float64) []string {
	if len(r.Blocked) > 0 {
		return nil
	}
	var out []string
	for _, row := range r.Rows {
		for _, c := range row.Changes {
			if c.Outcome == Slower && c.Delta > threshold {
				out = append(out, fmt.Sprintf("%s %s %s", row.ID, c.Statistic, percent(c.Delta)))
			}
		}
	}
	return out
}

// look fills the warnings in.
func (r *Result) look(before, after *bench.Saved) {
	differ := func(list *[]string, what string, a, b any) {
		if x, y := fmt.Sprint(a), fmt.Sprint(b); x != y {
			*list = append(*list, fmt.Sprintf("%s: %s, then %s", what, x, y))
		}
	}
	a, b := &before.Machine, &after.Machine
	differ(&r.Blocked, "CPU", a.CPUModel, b.CPUModel)
	differ(&r.Blocked, "CPUs", a.CPUs, b.CPUs)
	differ(&r.Blocked, "architecture", a.Arch, b.Arch)
	differ(&r.Blocked, "virtualised", a.Virtualised, b.Virtualised)
	o, p := &before.Run.Options, &after.Run.Options
	differ(&r.Blocked, "samples of a round", o.Samples, p.Samples)
	differ(&r.Blocked, "asks before them", o.Warmup, p.Warmup)
	differ(&r.Blocked, "time for a round", bench.Span(o.RoundBudgetNS), bench.Span(p.RoundBudgetNS))
	differ(&r.Blocked, "CPUs of the run", o.CPUs, p.CPUs)
	for _, m := range []*bench.Machine{a, b} {
		if m.Emulated() && !(a.Counted && b.Counted) {
			r.Blocked = append(r.Blocked, "emulated: "+m.Times())
			break
		}
	}
	for _, why := range before.Noisy() {
		r.Blocked = append(r.Blocked, "the old run was noisy: "+why)
	}
	for _, why := range after.Noisy() {
		r.Blocked = append(r.Blocked, "the new run was noisy: "+why)
	}
	differ(&r.Warnings, "kernel", a.Kernel, b.Kernel)
	differ(&r.Warnings, "preemption", a.Preemption, b.Preemption)
	differ(&r.Warnings, "GOMAXPROCS", a.GOMAXPROCS, b.GOMAXPROCS)
	differ(&r.Warnings, "Go", a.GoVersion, b.GoVersion)
}

// compareRows compares a scenario; a side that lacks it is nil.
func compareRows(id string, before, after *bench.ScenarioReport) Row {
	row := Row{ID: id}
	switch {
	case before == nil:
		row.Why = "not in the old run"
	case after == nil:
		row.Why = "not in the new run"
	case before.Status != bench.Measured || after.Status != bench.Measured:
		row.Why = fmt.Sprintf("%s, then %s", state(before), state(after))
	case before.Overrun()+after.Overrun() != "":
		row.Why = "it was offered more than it served, so that its times say how long a round was"
	case len(before.Rounds) == 0 || len(after.Rounds) == 0:
		row.Why = "a report has no rounds of it"
	default:
		row.Changes = []Change{
			compareRounds("p50", before, after, func(p bench.Percentiles) int64 { return p.P50 }),
			compareRounds("p99", before, after, func(p bench.Percentiles) int64 { return p.P99 }),
		}
	}
	return row
}

func state(s *bench.ScenarioReport) string {
	if s.Reason == "" {
		return string(s.Status)
	}
	return string(s.Status) + " (" + s.Reason + ")"
}

func compareRounds(name string, before, after *bench.ScenarioReport, of func(bench.Percentiles) int64) Change {
	sample := func(s *bench.ScenarioReport) *benchmath.Sample {
		values := make([]float64, len(s.Rounds))
		for i, r := range s.Rounds {
			values[i] = float64(of(r.Percentiles))
		}
		return benchmath.NewSample(values, &benchmath.Thresholds{CompareAlpha: Alpha})
	}
	a, b := sample(before), sample(after)
	found := benchmath.AssumeNothing.Compare(a, b)
	c := Change{
		Statistic: name, P: found.P, OldN: found.N1, NewN: found.N2, Outcome: Same,
		Old: benchmath.AssumeNothing.Summary(a, confidence), New: benchmath.AssumeNothing.Summary(b, confidence),
		AllEqual: a.Values[0] == b.Values[len(b.Values)-1] && b.Values[0] == a.Values[len(a.Values)-1],
	}
	if c.Old.Center > 0 {
		c.Delta = c.New.Center/c.Old.Center - 1
	}
	switch {
	case c.AllEqual:
	case leastP(c.OldN, c.NewN) > Alpha:
		c.Outcome = TooFew
	case c.P <= Alpha && c.Delta > 0:
		c.Outcome = Slower
	case c.P <= Alpha && c.Delta < 0:
		c.Outcome = Faster
	}
	return c
}

// leastP is the p-value of two samples of which every value of one is below every value of the other:
// two of all the ways to deal n+m ranks out.
func leastP(n, m int) float64 {
	ways := 1.0
	for i := 1; i <= min(n, m); i++ {
		ways *= float64(max(n, m)+i) / float64(i)
	}
	return math.Min(2/ways, 1)
}

// roundsNeeded is the least number of rounds, the same in both runs, for a difference to be significant.
func roundsNeeded() int {
	n := 1
	for leastP(n, n) > Alpha {
		n++
	}
	return n
}

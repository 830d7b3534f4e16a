// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Defaults of Options: a run of the bridge comparison takes under a minute.
const (
	DefaultRounds  = 5
	DefaultSamples = 20_000
	// DefaultRoundBudget bounds one round of one scenario.
	DefaultRoundBudget = 2 * time.Second
	// QuickRounds and QuickSamples are for a look that takes seconds; their
	// p99.9 rests on a handful of samples.
	QuickRounds  = 3
	QuickSamples = 2000

	// MaxRounds and MaxSamples bound what one run can cost in time and memory.
	MaxRounds  = 1000
	MaxSamples = 1_000_000
)

// Options configures Run. Scenarios and Self are required.
type Options struct {
	Scenarios []Scenario
	// Self is the command of a child; the scenario's ID and its place, two CPU
	// numbers with a comma, are appended. It must call Serve and exit.
	Self []string
	Env  []string // added to the child's environment
	Kind string   // of the report: the command that asked for it

	Rounds      int           // 0: DefaultRounds
	Samples     int           // of one round of one scenario; 0: DefaultSamples
	RoundBudget time.Duration // 0: DefaultRoundBudget
	// CPUs are the requester's and the other CPU. nil: the first two that the
	// process may use; with only one, what needs another is unavailable.
	CPUs []int
	// Progress, if not nil, gets a line per round.
	Progress io.Writer
	// Done, if not nil, gets the report before Run returns, with the histograms of the rounds. Its
	// error is one of Run's.
	Done func(*Report) error
}

// check returns all that is wrong with o, and fills the defaults in.
func (o *Options) check() error {
	var errs []error
	if len(o.Scenarios) == 0 {
		errs = append(errs, errors.New("no scenarios"))
	}
	if len(o.Self) == 0 {
		errs = append(errs, errors.New("no command in Self: say how a child is started"))
	}
	if o.Rounds == 0 {
		o.Rounds = DefaultRounds
	}
	if o.Samples == 0 {
		o.Samples = DefaultSamples
	}
	if o.RoundBudget == 0 {
		o.RoundBudget = DefaultRoundBudget
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Rounds < 1 || o.Rounds > MaxRounds {
		errs = append(errs, fmt.Errorf("%d rounds: give 1 to %d", o.Rounds, MaxRounds))
	}
	if o.Samples < 1 || o.Samples > MaxSamples {
		errs = append(errs, fmt.Errorf("%d samples: give 1 to %d", o.Samples, MaxSamples))
	}
	if o.RoundBudget < 0 {
		errs = append(errs, fmt.Errorf("a round budget of %v: give a positive one", o.RoundBudget))
	}
	return errors.Join(append(errs, o.checkCPUs())...)
}

func (o *Options) checkCPUs() error {
	allowed, err := AllowedCPUs()
	if err != nil {
		return err
	}
	if o.CPUs == nil {
		o.CPUs = allowed[:min(2, len(allowed))]
		return nil
	}
	if len(o.CPUs) != 2 || o.CPUs[0] == o.CPUs[1] {
		return fmt.Errorf("CPUs %v: give two different ones, the requester's and another", o.CPUs)
	}
	for _, cpu := range o.CPUs {
		found := false
		for _, a := range allowed {
			found = found || a == cpu
		}
		if !found {
			return fmt.Errorf("CPU %d: this process may run on %v", cpu, allowed)
		}
	}
	return nil
}

// place returns where a scenario runs, false when it needs a CPU that is not there.
func (o *Options) place(i Info) (Place, bool) {
	at := Place{o.CPUs[0], o.CPUs[0]}
	if i.SameCPU || i.NoResponder {
		return at, true
	}
	if len(o.CPUs) < 2 {
		return at, false
	}
	at.Responder = o.CPUs[1]
	return at, true
}

// row is a scenario during the run.
type row struct {
	ScenarioReport
	child  *child
	merged *hdrhistogram.Histogram
}

// Run does all rounds of all scenarios in turns and returns the report. What a
// machine cannot do, and what breaks on the way, is a row with a reason. The
// error is of the options (no report then), of ctx, ErrNothingMeasured or of Done;
// with the last two the report is complete. No process of it is left when it returns.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("configuring the bench: %w", err)
	}
	r := &Report{
		SchemaVersion: SchemaVersion,
		Kind:          o.Kind,
		Started:       time.Now().UTC().Truncate(time.Second),
		Options: ReportOptions{Rounds: o.Rounds, Samples: o.Samples, RoundBudgetNS: int64(o.RoundBudget),
			Warmup: warmup(o.Samples), CPUs: o.CPUs},
	}
	watch := StartWatch(o.CPUs...)
	rows := make([]*row, len(o.Scenarios))
	defer func() {
		for _, w := range rows {
			if w != nil && w.child != nil {
				w.child.close()
			}
		}
	}()
	for i, s := range o.Scenarios {
		rows[i] = start(ctx, &o, s.Describe())
	}
	for n := 0; n < o.Rounds && ctx.Err() == nil; n++ {
		fmt.Fprintf(o.Progress, "round %d of %d\n", n+1, o.Rounds)
		for _, w := range rows {
			if w.child != nil {
				w.round(ctx, &o)
			}
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("running the bench: %w", context.Cause(ctx))
	}
	for _, w := range rows { // before the watch: until then they count as others
		if w.child != nil {
			w.child.close()
			w.child = nil
		}
	}
	r.Machine = watch.Stop()
	r.DurationNS = int64(time.Since(watch.started))
	measured := false
	for _, w := range rows {
		if err := w.finish(); err != nil {
			return nil, err
		}
		measured = measured || w.Status != Unavailable && w.Status != Broken
		r.Scenarios = append(r.Scenarios, w.ScenarioReport)
	}
	r.addBaselines()
	r.Verdict = judge(r)
	if !measured {
		return r, fmt.Errorf("running the bench: %w", ErrNothingMeasured)
	}
	return r, r.done(o.Done)
}

// done hands the report with the histograms of its rounds over, and drops those.
func (r *Report) done(to func(*Report) error) error {
	var err error
	if to != nil {
		err = to(r)
	}
	for i := range r.Scenarios {
		r.Scenarios[i].Intervals = nil
	}
	return err
}

// warmup is how many asks precede those that count: enough to wake a parked worker
// and to fill the caches.
func warmup(samples int) int { return min(max(samples/20, 20), 1000) }

func start(ctx context.Context, o *Options, info Info) *row {
	w := &row{ScenarioReport: ScenarioReport{ID: info.ID, Mechanism: info.Mechanism, Responder: info.Responder,
		Baseline: info.Baseline}, merged: newHistogram()}
	at, ok := o.place(info)
	if !ok {
		w.Status, w.Reason = Unavailable, fmt.Sprintf("needs a second CPU, this process may use CPU %d only", o.CPUs[0])
		return w
	}
	c, err := startChild(ctx, o, info, at)
	if err != nil {
		w.fault(ctx, err)
		return w
	}
	w.child = c
	return w
}

// fault ends the scenario with a reason.
func (w *row) fault(ctx context.Context, err error) {
	w.Status, w.Reason = Broken, err.Error()
	var u *unavailableText
	if errors.As(err, &u) {
		w.Status = Unavailable
	}
	if w.child != nil {
		w.child.end(ctx)
		w.child = nil
	}
}

func (w *row) round(ctx context.Context, o *Options) {
	n := o.Samples
	if m := w.child.info.MaxSamples; m > 0 {
		n = min(n, m)
	}
	began := time.Now()
	res, err := w.child.round(ctx, command{RoundOptions{warmup(n), o.RoundBudget}, n})
	if err != nil {
		w.fault(ctx, err)
		return
	}
	h, err := decode(res.Histogram)
	if err != nil {
		w.fault(ctx, err)
		return
	}
	if res.Samples == 0 {
		w.EmptyRounds++ // the budget went before the first one: other rounds may do better
		return
	}
	w.merged.Merge(h)
	w.Samples += res.Samples
	w.Failed += res.Failed
	w.Rounds = append(w.Rounds, RoundReport{res.Samples, res.Failed, percentiles(h)})
	w.Intervals = append(w.Intervals, Interval{began, time.Now(), res.Histogram})
	for name, v := range res.Figures {
		if w.Figures == nil {
			w.Figures = map[string]float64{}
		}
		if old, ok := w.Figures[name]; !ok || v > old {
			w.Figures[name] = v
		}
	}
}

// finish fills the figures in.
func (w *row) finish() error {
	if w.Status == "" && w.Samples == 0 {
		w.Status, w.Reason = Broken, "no round had a sample within its budget"
	}
	if w.Status != "" {
		return nil
	}
	w.Status = Measured
	all := make([]Percentiles, len(w.Rounds))
	for i, r := range w.Rounds {
		all[i] = r.Percentiles
	}
	med, merged := medians(all), percentiles(w.merged)
	w.Median, w.Merged = &med, &merged
	text, err := encode(w.merged)
	if err != nil {
		return fmt.Errorf("reporting %s: %w", w.ID, err)
	}
	w.Histogram = &HistogramReport{Encoding: histogramEncoding, LowestNS: lowestNS, HighestNS: highestNS, Digits: digits, Data: text}
	if w.Failed == w.Samples {
		w.Status = NotApplicable
		w.Reason = fmt.Sprintf("failure verdict after %s (p50 of %d asks, none was answered)", micros(med.P50), w.Samples)
	}
	return nil
}

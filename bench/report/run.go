// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/arbiterd/arbiter/bench"
)

// Run is a report to be shown.
type Run struct {
	Name string // of the report's file, without the ending; its plots' names begin with it
	*bench.Saved
	rows []row // those that were measured, in the report's order
}

// row is a scenario that was measured.
type row struct {
	*bench.ScenarioReport
	recorded *hdrhistogram.Histogram // nil when the report has none
}

// figureRate is the figure of rows that are asked at a given rate, so many times a second.
const figureRate = "offered_per_second"

// label tells a row from the others of its mechanism.
func (w *row) label() string {
	if rate, ok := w.Figures[figureRate]; ok {
		return w.Responder + ", " + thousands(int64(rate)) + " a second"
	}
	return w.Responder
}

// New makes a report ready. The error is that of a histogram that cannot be decoded.
func New(name string, s *bench.Saved) (*Run, error) {
	r := &Run{Name: name, Saved: s}
	if s.Run == nil {
		return r, nil
	}
	for i := range s.Run.Scenarios {
		sc := &s.Run.Scenarios[i]
		if sc.Status != bench.Measured || sc.Overrun() != "" { // the time to a failure verdict is no latency, nor is that of a round
			continue
		}
		h, err := sc.Recorded()
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		r.rows = append(r.rows, row{sc, h})
	}
	return r, nil
}

// Conclusion is what a run says of one claim, in words.
type Conclusion struct {
	Claim   string
	Outcome string // Holds, DoesNotHold or CannotTell
	Found   string // the figure that it rests on
	Why     string // when it cannot be told
}

// What a Conclusion can say.
const (
	Holds       = "holds"
	DoesNotHold = "does not hold"
	CannotTell  = "cannot tell"
)

// Conclusions returns the claims that the report itself judges.
func (r *Run) Conclusions() []Conclusion {
	var bars []Conclusion
	for i := range r.Bars {
		b := &r.Bars[i]
		value, bound := b.Texts()
		bars = append(bars, Conclusion{capital(b.Name) + ": " + bound, outcome(b.Outcome), value, b.Why})
	}
	switch d := r.Daemon; {
	case d != nil:
		return []Conclusion{
			{fmt.Sprintf("The idle daemon with %d rules keeps at most %d MiB resident", bench.DaemonRules, bench.MaxDaemonRSS>>20),
				outcome(d.RSSBar), fmt.Sprintf("%.1f MiB", float64(d.Usage.PeakRSSBytes)/(1<<20)), ""},
			{fmt.Sprintf("It uses at most %v %% of a core", bench.MaxDaemonIdle), outcome(d.IdleBar), fmt.Sprintf("%.3f %%", d.Idle), ""},
		}
	}
	if r.Kind != bench.KindBridge {
		return bars
	}
	v := &r.Run.Verdict
	native, factor := "no figure", "no figure"
	if s := r.Row(v.Native); s != nil && s.Median != nil {
		native = "p50 " + bench.Span(s.Median.P50)
	}
	if s := r.Row(v.Fanotify); s != nil && v.FanotifyFactor > 0 {
		factor = fmt.Sprintf("%.1f times, against %s", cut(v.FanotifyFactor), s.Responder)
	}
	out := []Conclusion{
		{"The native queue answers within " + bench.Span(bench.P50BarNS), outcome(v.P50Bar), native, ""},
		{fmt.Sprintf("It is at least %d times faster than the best fanotify figure of the same run", bench.FactorBar), outcome(v.Bar), factor, ""},
	}
	for i := range out {
		if out[i].Outcome == CannotTell {
			out[i].Why = v.Why
		}
	}
	return append(out, bars...)
}

// cut leaves one decimal and never rounds up: what was missed by a hair must not look met.
func cut(f float64) float64 { return float64(int64(f*10)) / 10 }

func outcome(bar string) string {
	switch bar {
	case bench.Met:
		return Holds
	case bench.Missed:
		return DoesNotHold
	}
	return CannotTell
}

// Comparisons returns the factors that the report has, in words.
func (r *Run) Comparisons() []string {
	var out []string
	list := func(of string, factors []bench.Factor) {
		for _, f := range factors {
			out = append(out, fmt.Sprintf("%s %s : %s %s = 1 : %.1f", f.Ours, of, f.Theirs, of, cut(f.Factor)))
		}
	}
	list("p50", r.Factors)
	list("p99", r.P99Factors)
	return out
}

// Fact is a line about the machine or the run.
type Fact struct{ Name, Text string }

// Facts returns what the figures are worth nothing without.
func (r *Run) Facts() []Fact {
	m := &r.Machine
	num := func(format string, v *float64) string {
		if v == nil {
			return "unknown"
		}
		return fmt.Sprintf(format, *v)
	}
	facts := []Fact{
		{"machine", fmt.Sprintf("%d CPUs, %s, %s, virtualised: %s", m.CPUs, m.CPUModel, m.Arch, m.Virtualised)},
		{"kernel", m.Kernel + ", preemption: " + m.Preemption},
		{"load", fmt.Sprintf("%s before, %s after; stolen %s", num("%.2f", m.LoadBefore), num("%.2f", m.LoadAfter), num("%.1f %%", m.StealPercent))},
		{"Go", fmt.Sprintf("%s, GOMAXPROCS %d, clock read %d ns", m.GoVersion, m.GOMAXPROCS, m.ClockReadNS)},
	}
	if r.Run == nil {
		return append(facts, Fact{"watched for", bench.Span(int64(r.Daemon.Usage.Window))})
	}
	for i := range r.Run.Scenarios {
		if why := r.Run.Scenarios[i].Empty(); why != "" {
			facts = append(facts, Fact{"missing", why})
		}
	}
	o := &r.Run.Options
	cpus := make([]string, len(o.CPUs))
	for i, c := range o.CPUs {
		cpus[i] = fmt.Sprint(c)
	}
	return append(facts,
		Fact{"run", fmt.Sprintf("arbiter-bench %s, began %s, took %s", r.Kind, r.Run.Started.UTC().Format("2006-01-02 15:04 UTC"), bench.Span(r.Run.DurationNS))},
		Fact{"options", fmt.Sprintf("%d rounds in turns, %d samples each after %d that do not count, a round ends after %s; CPUs %s",
			o.Rounds, o.Samples, o.Warmup, bench.Span(o.RoundBudgetNS), strings.Join(cpus, " and "))})
}

// capital makes a sentence of a bar's name.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

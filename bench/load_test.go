// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPoisson(t *testing.T) {
	const rate, n = 10_000, 100_000
	at := poisson(rate, n)
	if at[0] != 0 || !slices.IsSorted(at) {
		t.Fatalf("got %v first, ascending: %t, want 0 and times in order", at[0], slices.IsSorted(at))
	}
	if got := float64(n) / at[n-1].Seconds(); math.Abs(got-rate) > rate/100 {
		t.Errorf("got %.0f a second, want %d within a hundredth", got, rate)
	}
	// Of exponential gaps 1/e are longer than the mean: fixed ones are not.
	long := 0
	for i := 1; i < n; i++ {
		if at[i]-at[i-1] > time.Second/rate {
			long++
		}
	}
	if got := float64(long) / n; math.Abs(got-1/math.E) > 0.01 {
		t.Errorf("%.3f of the gaps are longer than the mean, want %.3f", got, 1/math.E)
	}
	if diff := cmp.Diff(at[:100], poisson(rate, 100)); diff != "" {
		t.Errorf("another run has other arrivals:\n%s", diff)
	}
}

func TestShortOf(t *testing.T) {
	due := make([]time.Duration, 100) // 1,000 a second
	for i := range due {
		due[i] = time.Duration(i) * time.Millisecond
	}
	f := func(name string, late func(i int) time.Duration, from, to float64) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			ns := make([]uint32, len(due))
			for i := range ns {
				ns[i] = uint32(late(i))
			}
			if got := shortOf(due, ns); got < from || got > to {
				t.Errorf("got %.3f, want %.3f to %.3f", got, from, to)
			}
		})
	}
	f("in time", func(int) time.Duration { return time.Microsecond }, 0, 0.001)
	f("half the rate", func(i int) time.Duration { return due[i] }, 0.499, 0.501)
	f("a stall in the middle", func(i int) time.Duration { return max(time.Second-20*due[i], 0) }, 0, 0)
	f("a stall at the end", func(i int) time.Duration { return time.Duration(i/99) * time.Second }, 0, 0)
	if got := shortOf(nil, nil); got != 1 {
		t.Errorf("nothing asked: got %v, want all of it missing", got)
	}
}

// pacedFake answers as many asks as it is told to, at once.
type pacedFake struct{ answers int }

func (pacedFake) Round(RoundOptions, []uint32) (Outcome, error) { return Outcome{}, nil }
func (pacedFake) Close() error                                  { return nil }
func (p pacedFake) roundAt(_ []time.Duration, _ time.Duration, late []uint32) (Outcome, error) {
	return fill(late[:p.answers], 500, 0)
}

// Asks that were due and never made were not served, and are late by what was left of the round.
func TestLoadNeverMade(t *testing.T) {
	f := func(answers, samples int, short float64, last time.Duration) {
		t.Helper()
		s := &loadSession{pacedFake{answers}, 1000}
		late := make([]uint32, 100)
		out, err := s.Round(RoundOptions{Budget: time.Second}, late)
		if got := out.Figures[FigureShort]; err != nil || out.Samples != samples || got < short || got > short+0.001 {
			t.Errorf("%d answers: got %+v, %v, want %d samples, %v of them short", answers, out, err, samples, short)
		}
		if got := time.Duration(late[99]); got != last {
			t.Errorf("%d answers: got the last one %v late, want %v", answers, got, last)
		}
	}
	end := time.Second - poisson(1000, 100)[99]
	f(100, 100, 0, 500)
	f(90, 100, 0.1, end)
	f(0, 100, 1, end)
	s := &loadSession{pacedFake{50}, 1000}
	due := poisson(1000, 100)
	out, err := s.Round(RoundOptions{Budget: due[60]}, make([]uint32, 100))
	if err != nil || out.Samples != 60 || out.Figures[FigureShort] < 10.0/60 {
		t.Errorf("got %+v, %v, want the 60 asks that were due before the end, 10 of which were not made", out, err)
	}
}

// An ask that waits for the one before it says so: the requester does not wait for
// answers before it lets the next one be due.
func TestRequesterCountsFromTheTimeDue(t *testing.T) {
	const sleep = 2 * time.Millisecond
	q := newRequester(sleepCall(sleep))
	samples := make([]uint32, 5)
	n, err := q.askAt(round{RoundOptions: RoundOptions{Budget: time.Minute}, samples: samples, due: make([]time.Duration, 5)})
	if n != 5 || err != nil {
		t.Fatalf("got %d samples, %v, want 5", n, err)
	}
	for i, ns := range samples {
		if want := time.Duration(i+1) * sleep; time.Duration(ns) < want {
			t.Errorf("ask %d of five that are due at once: got %v, want %v or more", i, time.Duration(ns), want)
		}
	}
	n, err = q.askAt(round{RoundOptions: RoundOptions{Budget: 3 * sleep}, samples: samples, due: make([]time.Duration, 5)})
	if n < 1 || n > 4 || err != nil {
		t.Errorf("got %d samples, %v, want the budget to end the round", n, err)
	}
}

func loadRowOf(of Scenario, rate int, short float64, p Percentiles) ScenarioReport {
	i := loadScenario{of, rate}.Describe()
	s := measured(i.ID, i.Mechanism, i.Responder, "", p)
	s.Figures = map[string]float64{FigureOffered: float64(rate), FigureShort: short}
	return s
}

func TestLoadTable(t *testing.T) {
	r := quietReport()
	r.Options.Samples = LoadSamples
	blocking, polling := fanotifyScenario{sameCPU: true}, fanotifyScenario{poll: true}
	r.Scenarios = []ScenarioReport{
		loadRowOf(nativeScenario{}, 1000, 0, Percentiles{400, 500, 1000, 2000, 3000}),
		loadRowOf(blocking, 1000, 0, Percentiles{8000, 9000, 20_000, 30_000, 40_000}),
		loadRowOf(polling, 1000, 0, Percentiles{6000, 9000, 30_500, 60_000, 70_000}),
		loadRowOf(nativeScenario{}, 100_000, keptShort, Percentiles{300, 400, 2000, 2000, 3000}),
		loadRowOf(blocking, 100_000, 0.051, Percentiles{80000, 90000, 100_000, 110_000, 120_000}),
		{ID: "load-100000-seccomp-other", Mechanism: Seccomp, Responder: "other CPU", Status: Unavailable, Reason: "run as root"},
	}
	report := &LoadReport{r, judgeLoad(r)}
	want := []Factor{{Ours: "load-1000-native-other", Theirs: "load-1000-fanotify-same", Factor: 20}}
	if diff := cmp.Diff(want, report.Verdict.P99); diff != "" {
		t.Errorf("the comparison is with who keeps the rate (-want +got):\n%s", diff)
	}
	r.Scenarios[0].EmptyRounds = 1
	if v := judgeLoad(r); len(v.P99) != 0 {
		t.Errorf("got %v of a row that lacks a round, want no comparison", v.P99)
	}
	r.Scenarios[0].EmptyRounds, r.Scenarios[0].Failed = 0, 1000
	if v := judgeLoad(r); len(v.P99) != 0 {
		t.Errorf("got %v of a row with failures, want no comparison", v.P99)
	}
	r.Scenarios[0].Failed = 0
	r.Machine.LoadBefore = ptr(9.0)
	if v := judgeLoad(r); len(v.P99) != 0 || len(v.Noisy) == 0 {
		t.Errorf("got %+v of a noisy run, want no comparison", v)
	}
	r.Machine.LoadBefore = ptr(0.25)
	var b bytes.Buffer
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table_load.txt", b.String())
	b.Reset()
	if err := report.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	if saved, err := ReadReport(strings.NewReader(b.String())); err != nil || cmp.Diff(want, saved.P99Factors) != "" {
		t.Errorf("read back: got %+v, %v, want the same comparison", saved, err)
	}
	if text := b.String(); !strings.Contains(text, `"p99_factors"`) || strings.Contains(text, `"factor_bar"`) {
		t.Errorf("got %s, want the verdict about load alone", text)
	}
}

// TestLoad runs the rows of one rate for real, briefly.
func TestLoad(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, fanotify permission events and BPF")
	}
	o := testOptions(t)
	o.Samples = 50
	for _, s := range Load() {
		if s.(loadScenario).rate == 1000 {
			o.Scenarios = append(o.Scenarios, s)
		}
	}
	r, err := RunLoad(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	arrivals := poisson(1000, o.Samples)[o.Samples-1]
	for _, s := range r.Scenarios {
		t.Run(s.ID, func(t *testing.T) {
			switch {
			case s.Status == Unavailable:
				t.Skip(s.Reason)
			case s.Status != Measured || s.Samples == 0 || s.Figures[FigureOffered] != 1000 || s.Median.P50 <= 0:
				t.Errorf("got %s %q, %d samples, figures %v, want asks at 1000 a second", s.Status, s.Reason, s.Samples, s.Figures)
			}
		})
	}
	if took := time.Duration(r.DurationNS); took < 2*arrivals {
		t.Errorf("two rounds took %v, want at least %v each", took, arrivals)
	}
}

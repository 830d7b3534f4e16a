// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/bench"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run is a report of a quiet machine. Each row's rounds have these p50, and ten times that as p99.
func run(rows map[string][]int64) *bench.Saved {
	load, steal := 0.2, 0.0
	m := bench.Machine{CPUModel: "Example CPU", CPUs: 8, Virtualised: "no", Kernel: "6.12.0", Preemption: "voluntary", Arch: "amd64",
		GOMAXPROCS: 8, GoVersion: "go1.26", LoadBefore: &load, StealPercent: &steal}
	r := &bench.Report{SchemaVersion: bench.SchemaVersion, Machine: m, Options: bench.ReportOptions{Rounds: 5, Samples: 100, Warmup: 20, RoundBudgetNS: 2e9, CPUs: []int{0, 1}}}
	for _, id := range []string{"native-other", "seccomp-same", "fanotify-same", "gone"} {
		p50, ok := rows[id]
		if !ok {
			continue
		}
		s := bench.ScenarioReport{ID: id, Status: bench.Measured, Samples: 100}
		for _, v := range p50 {
			s.Rounds = append(s.Rounds, bench.RoundReport{Samples: 100, Percentiles: bench.Percentiles{P50: v, P99: 10 * v}})
		}
		r.Scenarios = append(r.Scenarios, s)
	}
	return &bench.Saved{Kind: bench.KindBridge, Machine: m, Run: r}
}

func one(p50 ...int64) *bench.Saved { return run(map[string][]int64{"native-other": p50}) }

func TestOutcome(t *testing.T) {
	f := func(name string, before, after []int64, want Outcome, slower bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r, err := Compare(one(before...), one(after...), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Rows[0].Changes {
				if c.Outcome != want {
					t.Errorf("%s: got %q, p %v, want %q", c.Statistic, c.Outcome, c.P, want)
				}
			}
			if got := r.Slower(0.10); (len(got) > 0) != slower {
				t.Errorf("got %v slower by a tenth, want %v", got, slower)
			}
			if got := r.Told(); got != (want != TooFew) {
				t.Errorf("got told %v, want %v", got, !got)
			}
		})
	}
	f("all above", []int64{100, 101, 102, 103}, []int64{120, 121, 122, 123}, Slower, true)
	f("above by less", []int64{100, 101, 102, 103}, []int64{105, 106, 107, 108}, Slower, false)
	f("all below", []int64{120, 121, 122, 123}, []int64{100, 101, 102, 103}, Faster, false)
	f("mixed", []int64{100, 101, 130, 103, 99}, []int64{120, 100, 102, 98, 125}, Same, false)
	f("the same figure in all", []int64{80, 80, 80, 80}, []int64{80, 80, 80, 80}, Same, false)
	f("three and three", []int64{100, 101, 102}, []int64{200, 201, 202}, TooFew, false)
	f("three and five", []int64{100, 101, 102}, []int64{200, 201, 202, 203, 204}, Slower, true)
	f("one round", []int64{100}, []int64{200}, TooFew, false)
}

// TestLeastP compares with the test itself, of samples that lie apart.
func TestLeastP(t *testing.T) {
	for n := 2; n <= 7; n++ {
		var a, b []int64
		for i := range int64(n) {
			a, b = append(a, 100+i), append(b, 200+i)
		}
		r, err := Compare(one(a...), one(b...), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := leastP(n, n), r.Rows[0].Changes[0].P; got < want-1e-9 || got > want+1e-9 {
			t.Errorf("of %d rounds: got %v, the test says %v", n, got, want)
		}
	}
	if got := roundsNeeded(); got != 4 {
		t.Errorf("got %d rounds, want 4: 2 of 70 ways are less than one in twenty", got)
	}
}

// TestOverrun compares no times of asks that waited for their turn all the time.
func TestOverrun(t *testing.T) {
	after := one(200, 201, 202, 203)
	after.Run.Scenarios[0].Figures = map[string]float64{bench.FigureOffered: 1000, bench.FigureShort: 0.5}
	if r, err := Compare(one(100, 101, 102, 103), after, nil); !errors.Is(err, ErrNotComparable) {
		t.Errorf("got %+v, %v, want nothing to compare", r, err)
	}
	before := one(100, 101, 102, 103)
	before.Run.Scenarios[0].Figures = map[string]float64{bench.FigureOffered: 1000, bench.FigureShort: 0.01}
	if r, err := Compare(before, one(200, 201, 202, 203), nil); err != nil || len(r.Rows[0].Changes) != 2 {
		t.Errorf("got %+v, %v, want a row that keeps its rate compared", r, err)
	}
}

func TestRunsThatDiffer(t *testing.T) {
	f := func(name string, change func(*bench.Saved), blocked, warning string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			after := one(200, 201, 202, 203)
			change(after)
			after.Run.Machine = after.Machine
			r, err := Compare(one(100, 101, 102, 103), after, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Blocked, "; "); !strings.Contains(got, blocked) || blocked == "" && got != "" {
				t.Errorf("got blocked by %q, want %q", got, blocked)
			}
			if got := strings.Join(r.Warnings, "; "); !strings.Contains(got, warning) || warning == "" && got != "" {
				t.Errorf("got the warnings %q, want %q", got, warning)
			}
			if got := len(r.Slower(0)) > 0; got != (blocked == "") || r.Told() != got {
				t.Errorf("got a verdict: %v, told: %v, want %v", got, r.Told(), blocked == "")
			}
		})
	}
	noise, steal := 4.1, 2.5
	f("the same", func(*bench.Saved) {}, "", "")
	f("another kernel", func(s *bench.Saved) { s.Machine.Kernel = "6.18.0" }, "", "kernel: 6.12.0, then 6.18.0")
	f("another Go", func(s *bench.Saved) { s.Machine.GoVersion = "go1.27" }, "", "Go: go1.26, then go1.27")
	f("another CPU", func(s *bench.Saved) { s.Machine.CPUModel = "Other" }, "CPU: Example CPU, then Other", "")
	f("more CPUs", func(s *bench.Saved) { s.Machine.CPUs = 16 }, "CPUs: 8, then 16", "")
	f("more samples", func(s *bench.Saved) { s.Run.Options.Samples = 200 }, "samples of a round: 100, then 200", "")
	f("less time", func(s *bench.Saved) { s.Run.Options.RoundBudgetNS = 1e9 }, "time for a round: 2.00 s, then 1.00 s", "")
	f("another place", func(s *bench.Saved) { s.Run.Options.CPUs = []int{2, 3} }, "[0 1], then [2 3]", "")
	f("more rounds", func(s *bench.Saved) { s.Run.Options.Rounds = 9 }, "", "")
	f("load", func(s *bench.Saved) { s.Machine.LoadBefore = &noise }, "the new run was noisy: load 4.10", "")
	f("counted, and emulated otherwise", func(s *bench.Saved) { s.Machine.CPUModel, s.Machine.Counted = "QEMU TCG CPU version 2.5+", true }, "emulated: times are instructions", "")
	f("emulated", func(s *bench.Saved) { s.Machine.CPUModel = "QEMU TCG CPU version 2.5+" }, "emulated: times mean nothing", "")
	f("stolen", func(s *bench.Saved) { s.Machine.StealPercent = &steal }, "the new run was noisy: 2.5 %", "")
	f("load unknown", func(s *bench.Saved) { s.Machine.LoadBefore = nil }, "unknown", "")
}

func TestNotComparable(t *testing.T) {
	f := func(name string, before, after *bench.Saved, only []string, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			_, err := Compare(before, after, only)
			if !errors.Is(err, ErrNotComparable) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	rules := one(1)
	rules.Kind = bench.KindRules
	daemon := &bench.Saved{Kind: bench.KindDaemon, Daemon: new(bench.DaemonReport)}
	f("kinds", one(1), rules, nil, "one is of bridge, the other one of rules")
	f("daemons", daemon, daemon, nil, "a report of a daemon has no rounds")
	f("an unknown scenario", one(1), one(1), []string{"nativ"}, `neither has a scenario "nativ"`)
	f("nothing in common", one(1), run(map[string][]int64{"gone": {1}}), nil, "no scenario was measured in both")
	f("empty", run(nil), run(nil), nil, "no scenario was measured in both")
}

func TestWrite(t *testing.T) {
	f := func(name string, before, after *bench.Saved) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r, err := Compare(before, after, nil)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := r.Write(&b, DefaultThreshold); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".txt")
			if *update {
				if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), b.String()); diff != "" {
				t.Errorf("the text differs (-want +got; run with -update to accept):\n%s", diff)
			}
		})
	}
	before := map[string][]int64{"native-other": {260, 262, 261, 259, 263, 260}, "seccomp-same": {3800, 3810, 3790, 3805, 3795, 3800}, "fanotify-same": {7700, 7710, 7690, 7705, 7695}, "gone": {1}}
	after := map[string][]int64{"native-other": {310, 312, 309, 311, 315, 310}, "seccomp-same": {3801, 3790, 3811, 3795, 3804, 3803}, "fanotify-same": {7000, 7010, 6990, 7005, 6995}}
	f("changed", run(before), run(after))
	noise := 5.5
	noisy := run(after)
	noisy.Machine.LoadBefore, noisy.Machine.Kernel = &noise, "6.18.0"
	noisy.Run.Machine = noisy.Machine
	broken := &noisy.Run.Scenarios[slices.IndexFunc(noisy.Run.Scenarios, func(s bench.ScenarioReport) bool { return s.ID == "seccomp-same" })]
	broken.Status, broken.Reason = bench.Unavailable, "run as root"
	f("noisy", run(before), noisy)
	f("few", one(1, 2, 3), one(4, 5, 6))
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRunRows(t *testing.T) {
	ids := []string{"steady", "unanswered", "sometimes", "empty", "faulty", "forbidden", "unopenable", "crashing"}
	r, err := Run(t.Context(), testOptions(t, ids...))
	if err != nil {
		t.Fatalf("got %v, want a report", err)
	}
	want := map[string]struct {
		status  Status
		reason  string
		samples int
		failed  int
	}{
		"steady":     {Measured, "", 400, 2},
		"unanswered": {NotApplicable, "failure verdict after 50.0 µs (p50 of 400 asks, none was answered)", 400, 400},
		"sometimes":  {Measured, "", 200, 0},
		"empty":      {Broken, "no round had a sample", 0, 0},
		"faulty":     {Broken, "a fault in the round", 0, 0},
		"forbidden":  {Unavailable, "trying it: permission denied; run as somebody else", 0, 0},
		"unopenable": {Broken, "a fault in opening", 0, 0},
		"crashing":   {Broken, "last words of the child", 0, 0},
	}
	for i, s := range r.Scenarios {
		w := want[ids[i]]
		if s.ID != ids[i] || s.Status != w.status || !strings.Contains(s.Reason, w.reason) || s.Samples != w.samples || s.Failed != w.failed {
			t.Errorf("row %d: got %s %s %q %d/%d, want %s %s %q %d/%d", i, s.ID, s.Status, s.Reason, s.Failed, s.Samples,
				ids[i], w.status, w.reason, w.failed, w.samples)
		}
	}
	if s := r.Scenarios[2]; s.EmptyRounds != 1 || len(s.Rounds) != 1 {
		t.Errorf("sometimes: got %d rounds without a sample and %d with, want one of each", s.EmptyRounds, len(s.Rounds))
	}
	if m := r.Machine; (m.CPUs > len(r.Options.CPUs)) != (m.RunStealPercent != nil) {
		t.Errorf("got %v stolen of the run's CPUs %v, want it known on a machine with others, which has %d", m.RunStealPercent, r.Options.CPUs, m.CPUs)
	}
	steady := r.Scenarios[0]
	if got := *steady.Median; got.P50 < 1500 || got.P50 > 1502 || got != *steady.Merged {
		t.Errorf("steady: got %+v, want 1500 ns in all", got)
	}
	if len(steady.Rounds) != 2 || steady.Rounds[0].Samples != 200 {
		t.Errorf("steady: got rounds %+v, want 2 of 200", steady.Rounds)
	}
}

func TestRunNothingMeasured(t *testing.T) {
	r, err := Run(t.Context(), testOptions(t, "forbidden", "faulty"))
	if !errors.Is(err, ErrNothingMeasured) {
		t.Errorf("got %v, want ErrNothingMeasured", err)
	}
	if r == nil || len(r.Scenarios) != 2 {
		t.Errorf("got %+v, want a report with the reasons", r)
	}
}

// TestRunInterrupted ends the run while a child is stuck in its round, and looks for
// what is left of it.
func TestRunInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := errors.New("interrupted by the test")
	o := testOptions(t, "steady", "stuck")
	o.Progress = writerFunc(func(b []byte) (int, error) {
		time.AfterFunc(50*time.Millisecond, func() { cancel(asked) })
		return len(b), nil
	})
	begin := time.Now()
	r, err := Run(ctx, o)
	if r != nil || !errors.Is(err, asked) {
		t.Errorf("got %v, %v, want no report and the cause", r, err)
	}
	if took := time.Since(begin); took > roundGrace {
		t.Errorf("it took %v to end, want less than %v", took, roundGrace)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("got children %v left, want none", left)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// children returns the processes whose parent is this one.
func children(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", os.Getpid(), os.Getpid()))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the kernel does not list children (CONFIG_PROC_CHILDREN)")
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b))
}

func TestRunOptions(t *testing.T) {
	f := func(name string, change func(*Options), want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := testOptions(t, "steady")
			change(&o)
			r, err := Run(t.Context(), o)
			if r != nil || err == nil {
				t.Fatalf("got %v, %v, want an error", r, err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %q, want %q in it", err, w)
				}
			}
		})
	}
	f("everything at once", func(o *Options) { *o = Options{Rounds: -1, Samples: MaxSamples + 1, RoundBudget: -1} },
		"no scenarios", "no command in Self", "-1 rounds", "1000001 samples", "budget")
	f("one CPU twice", func(o *Options) { o.CPUs = []int{0, 0} }, "two different")
	f("a CPU that is not there", func(o *Options) { o.CPUs = []int{0, 1023} }, "CPU 1023")
}

func TestPlace(t *testing.T) {
	f := func(name string, cpus []int, i Info, want Place, ok bool) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			o := Options{CPUs: cpus}
			at, got := o.place(i)
			if diff := cmp.Diff(want, at); got != ok || ok && diff != "" {
				t.Errorf("got %v %v, want %v %v", at, got, want, ok)
			}
		})
	}
	f("other", []int{2, 5}, Info{}, Place{2, 5}, true)
	f("same", []int{2, 5}, Info{SameCPU: true}, Place{2, 2}, true)
	f("baseline", []int{2}, Info{NoResponder: true}, Place{2, 2}, true)
	f("no other", []int{2}, Info{}, Place{}, false)
}

// TestBridge runs every scenario of the comparison for real, briefly.
func TestBridge(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, fanotify permission events and BPF")
	}
	var ids []string
	for _, s := range Bridge() {
		ids = append(ids, s.Describe().ID)
	}
	o := testOptions(t, ids...)
	o.RoundBudget = 30 * time.Second // how many samples there are is not to depend on what else runs here
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		t.Run(s.ID, func(t *testing.T) {
			switch {
			case s.Status == Unavailable:
				t.Skip(s.Reason)
			case s.ID == "native-same":
				if s.Status != NotApplicable || s.Median.P50 < 50_000 {
					t.Errorf("got %s %q %v, want not_applicable after 50 µs or more", s.Status, s.Reason, s.Median)
				}
			case s.ID == throughputID: // a lot may have a failure verdict on a busy machine, and a round ends by time
				if ns := s.Figures[FigureVerdictNS]; s.Samples == 0 || s.Status == Measured && ns < 50 {
					t.Errorf("got %s, %d samples, %v ns for a verdict, want what a verdict can take", s.Status, s.Samples, ns)
				}
			case s.ID == stagesID:
				// The medians of the stages are together about the median of the whole.
				sum := 0.0
				for _, name := range stageNames {
					sum += s.Figures[FigureStage(name)]
				}
				if s.Status != Measured || sum < float64(s.Median.P50)/3 || sum > float64(s.Median.P50)*3 {
					t.Errorf("got %s, stages of %v ns together, want about %v", s.Status, sum, s.Median)
				}
			case s.Status != Measured || s.Samples != 400 || s.Median.P50 <= 0:
				t.Errorf("got %s %q, %d samples, want 400 measured", s.Status, s.Reason, s.Samples)
			case s.Baseline != "" && *s.AddedP50NS <= 0:
				t.Errorf("got %d ns added, want more than nothing", *s.AddedP50NS)
			}
		})
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("got children %v left, want none", left)
	}
}

func TestBridgeIDs(t *testing.T) {
	seen := map[string]bool{}
	all := Bridge()
	for _, s := range all {
		i := s.Describe()
		if i.ID == "" || seen[i.ID] {
			t.Errorf("ID %q: want one of its own", i.ID)
		}
		seen[i.ID] = true
		if _, ok := Find(all, i.Baseline); i.Baseline != "" && !ok {
			t.Errorf("%s: its baseline %q is not there", i.ID, i.Baseline)
		}
	}
}

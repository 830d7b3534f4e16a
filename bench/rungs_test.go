// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// TestRungs runs all rows for real; those that need BPF LSM say so where there is none.
func TestRungs(t *testing.T) {
	var ids []string
	for _, s := range Rungs() {
		ids = append(ids, s.Describe().ID)
	}
	if !slices.Contains(ids, rungSleepID) {
		t.Errorf("got %v, want %s among them, which the others are compared with", ids, rungSleepID)
	}
	tmp := t.TempDir()
	o := testOptions(t, ids...)
	o.Samples, o.Env = 50, append(o.Env, "TMPDIR="+tmp)
	r, err := RunRungs(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		if sc, _ := Find(o.Scenarios, s.ID); s.Status == Unavailable && s.Mechanism == LSMHook && (sc.(rungScenario).possible() != nil || strings.Contains(s.Reason, "sleeping in a hook")) {
			continue
		}
		if s.Status == Unavailable && s.Mechanism == Fanotify && os.Geteuid() != 0 {
			continue
		}
		if s.Status != Measured || s.Samples == 0 {
			t.Errorf("%s: got %s %q, %d samples, want it measured", s.ID, s.Status, s.Reason, s.Samples)
		}
	}
	if r.Machine.OthersPercent == nil {
		t.Error("got nothing of other processes: the callers are none, they are waited for")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left, want nothing", left, err)
	}
}

// TestRungsInterrupted ends a run in the middle.
func TestRungsInterrupted(t *testing.T) {
	tmp := t.TempDir()
	o := testOptions(t, "rung-rename", "rung-open")
	o.Rounds, o.Env = MaxRounds, append(o.Env, "TMPDIR="+tmp)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Progress = writerFunc(func(b []byte) (int, error) {
		if bytes.HasPrefix(b, []byte("round 3 ")) {
			cancel()
		}
		return len(b), nil
	})
	if r, err := RunRungs(ctx, o); r != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, %v, want no report of a run that was interrupted", r, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left, want nothing", left, err)
	}
}

// Every second rename takes the one before back, and only a rename that is made counts.
func TestRenameatCall(t *testing.T) {
	dir := t.TempDir()
	if err := writeFiles(dir, map[string]string{"a": ""}); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := renameatCall(fd, "a", "b")
	if err != nil {
		t.Fatal(err)
	}
	q := newRequester(c)
	for _, want := range []string{"b", "a", "b"} {
		if _, err := q.once(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, want)); err != nil {
			t.Errorf("got %v, want the file to be %s", err, want)
		}
	}
	if err := os.Remove(filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if _, err := q.once(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, want ENOENT of a file that has gone", err)
	}
}

func TestCallerFaults(t *testing.T) {
	gc := debug.SetGCPercent(100)
	defer debug.SetGCPercent(gc) // the caller switches it off
	f := func(name, want string, args ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			// On a goroutine of its own, whose thread is pinned for good.
			done := make(chan error)
			go func() { done <- Caller(args, strings.NewReader(""), new(bytes.Buffer)) }()
			if err := <-done; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	cpu := strconv.Itoa(cpus[0])
	f("by hand", "started by a scenario")
	f("no CPU", "CPU", callOpen, "/", "first")
	f("no folder", "the caller's folder", callOpen, filepath.Join(t.TempDir(), "gone"), cpu)
	f("another call", "rename or open", "link", "/", cpu)
}

// rungFake is the hooks with the in-process kernel side behind them, and a caller that asks
// there. Nobody sleeps or unwinds in it.
type rungFake struct {
	*fakeQueue
	armed, configured bool
	lost              uint64 // claims that nobody made, as if calls had run again
}

func (f *rungFake) Configure(s kernelbridge.Scope, p kernelbridge.Policy) error {
	f.configured = len(s.Trees) == 1 && p.Asked == 1<<abi.EventOpen
	return nil
}

func (f *rungFake) SetPolicy(p kernelbridge.Policy) error {
	f.configured = p.Asked != 0
	return nil
}

func (f *rungFake) Arm(on bool)    { f.armed = on }
func (f *rungFake) Claims() uint64 { return f.k.Counts(abi.EventOpen).Asked.Load() + f.lost }

func (f *rungFake) round(o RoundOptions, samples []uint32) (int, error) {
	if !f.armed || !f.configured {
		return 0, errors.New("a call before the hook asks")
	}
	for i := range o.Warmup + len(samples) {
		f.k.Ask(ring.Facts{Event: uint32(abi.EventOpen)}, "/file", "")
		if i >= o.Warmup {
			samples[i-o.Warmup] = 7
		}
	}
	return len(samples), f.fault
}

func (f *rungFake) close() error { return nil }

func TestRungRound(t *testing.T) {
	f := func(name string, s rungScenario, change func(*rungFake), want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			q := &rungFake{fakeQueue: newFakeQueue(t)}
			change(q)
			cpus, err := AllowedCPUs()
			if err != nil {
				t.Fatal(err)
			}
			sess := &rungSession{rungScenario: s, queue: q, caller: q, at: Place{cpus[0], cpus[len(cpus)-1]}, dir: t.TempDir()}
			defer sess.Close()
			samples := make([]uint32, 30)
			out, err := sess.Round(RoundOptions{Warmup: 4, Budget: time.Minute}, samples)
			if want == "" && (err != nil || out.Samples != 30 || samples[29] != 7 || out.Figures[FigureAsked] != 34 || out.Figures[FigureUnwound] != 0) {
				t.Errorf("got %+v, %v, want 30 samples of 34 calls", out, err)
			}
			if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %+v, %v, want %q", out, err, want)
			}
			if q.armed || q.configured {
				t.Error("the hook asks still, after the round")
			}
		})
	}
	open := func(r rung) rungScenario { return rungScenario{call: callOpen, rung: r} }
	f("as it should", open(polls), func(*rungFake) {}, "")
	f("nobody slept", open(sleeps), func(*rungFake) {}, "another rung")
	f("the caller fails", open(polls), func(q *rungFake) { q.fault = errors.New("no such file") }, "no such file")
	f("a question is missing", open(polls), func(q *rungFake) { q.lose = true }, "33 were asked")
}

func TestRungJudge(t *testing.T) {
	all := func(n int, asleep bool) []bool { return slices.Repeat([]bool{asleep}, n) }
	f := func(name string, r rung, slept []bool, unwound uint64, kept int, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			s := &rungSession{rungScenario: rungScenario{call: callRename, rung: r}}
			samples := make([]uint32, len(slept)-2)
			for i := range samples {
				samples[i] = uint32(100 + i)
			}
			calls := uint64(len(slept))
			out, err := s.judge(samples, 2, rungCounts{calls, calls, calls + unwound}, slept)
			if want == "" && (err != nil || out.Samples != kept) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %+v, %v, want %d samples %q", out, err, kept, want)
			}
			if left := len(slept) - 2 - kept; want == "" && out.Figures[FigureLeftOut] != float64(left) {
				t.Errorf("got %v, want %d left out", out.Figures, left)
			}
			for i := range samples[:out.Samples] {
				if at := samples[i] - 100; slept[at+2] != (r != polls) {
					t.Errorf("sample %d is of a call on another rung", at)
				}
			}
		})
	}
	most := append(all(9, true), false, true, true)
	f("all polled", polls, all(12, false), 0, 10, "")
	f("one was unwound all the same", polls, all(12, false), 1, 0, "1 were unwound, 0 slept")
	f("all slept", sleeps, all(12, true), 0, 10, "")
	f("one got its verdict before", sleeps, most, 0, 9, "")
	f("most got it before", sleeps, append(all(8, false), all(4, true)...), 0, 0, "another rung")
	f("unwound in a hook that sleeps", sleeps, all(12, true), 12, 0, "12 were unwound")
	f("all unwound", unwinds, all(12, true), 12, 10, "")
	f("one got its verdict on the way to sleep", unwinds, most, 12, 9, "")
	f("slept where it must not", unwinds, all(12, true), 3, 0, "3 were unwound, 12 slept")

	s := &rungSession{rungScenario: rungScenario{call: callRename, rung: unwinds}}
	if out, err := s.judge(nil, 2, rungCounts{asked: 1}, nil); err != nil || out.Samples != 0 {
		t.Errorf("got %+v, %v of a round that had no time, want nothing", out, err)
	}
	if _, err := s.judge(make([]uint32, 3), 2, rungCounts{5, 4, 10}, all(5, true)); err == nil {
		t.Error("got no error of a call that got a failure verdict")
	}
}

func rungsReport() *Report {
	r := quietReport()
	r.Scenarios = nil
	row := func(id string, m Mechanism, base string, figures map[string]float64, p50s ...int64) {
		s := measured(id, m, id, base, Percentiles{P50: p50s[0], P90: 2 * p50s[0], P99: 3 * p50s[0]})
		for _, p := range p50s {
			s.Rounds = append(s.Rounds, RoundReport{100, 0, Percentiles{P50: p}})
		}
		s.Figures = figures
		r.Scenarios = append(r.Scenarios, s)
	}
	row("rung-rename", Baseline, "", nil, 2000, 2100)
	row("rung-rename-unwind-same", LSMHook, "rung-rename", map[string]float64{FigureLeftOut: 1, FigureAsked: 120, FigureUnwound: 120, FigureSlept: 119}, 62_000, 60_000)
	row("rung-rename-unwind-other", LSMHook, "rung-rename", nil, 90_000, 200_000)
	row("rung-open", Baseline, "", nil, 1000, 1000)
	row(rungSleepID, LSMHook, "rung-open", map[string]float64{FigureAsked: 120, FigureSlept: 120}, 31_000, 31_000)
	row(rungFanotifyID, Fanotify, "rung-open", nil, 37_000, 37_000)
	r.addBaselines()
	return r
}

func TestRungsTable(t *testing.T) {
	r := rungsReport()
	r.Scenarios = append(r.Scenarios, ScenarioReport{ID: "rung-open-poll", Mechanism: LSMHook, Responder: "open, polls", Status: Unavailable, Reason: "loading BPF LSM programs"})
	r.Machine.CPUModel, r.Machine.Counted = "QEMU TCG CPU version 2.5+", true
	var b bytes.Buffer
	if err := (&RungsReport{r, judgeRungs(r)}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\nemulated   times are instructions", "31.00      30.00-31.00  62.00   93.00   100000         1    120      120    119\n", "unavailable: loading BPF LSM programs\n",
		"what rung-open-sleep-same adds : what rung-rename-unwind-same adds, p50 = 1 : 2.00\n", "what rung-open-sleep-same adds : what rung-fanotify-same adds, p50 = 1 : 1.20\n",
		"fanotify event adds, p50, same CPU: 0.83; ≤ 1 bar: met\n", "37.00      37.00-37.00  74.00  111.00   100000         -      -        -      -\n", "rung-rename-unwind-other: p50 differs more than 1.5-fold"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
	if strings.Contains(b.String(), "rung-rename-unwind-other adds") {
		t.Errorf("got\n%s\nwant no factor of a row that is unsteady", b.String())
	}
}

func TestJudgeRungs(t *testing.T) {
	f := func(name string, change func(r *Report), added, unsteady int, bar, why string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := rungsReport()
			change(r)
			v := judgeRungs(r)
			if len(v.Added) != added || len(v.Unsteady) != unsteady {
				t.Errorf("got %+v, want %d factors and %d rows that are unsteady", v, added, unsteady)
			}
			if b := v.Bars[0]; b.Outcome != bar || !strings.Contains(b.Why, why) {
				t.Errorf("got %s, want %s %q", &b, bar, why)
			}
		})
	}
	f("steady but for one", func(*Report) {}, 2, 1, Met, "")
	f("slower than fanotify", func(r *Report) { *r.Scenarios[4].AddedP50NS = 36_001 }, 2, 1, Missed, "")
	f("an unsteady baseline", func(r *Report) { r.Scenarios[0].Rounds[1].P50 = 9000 }, 1, 2, Met, "")
	f("an unsteady baseline of the bar", func(r *Report) { r.Scenarios[3].Rounds[1].P50 = 9000 }, 0, 2, CannotTell, "rung-open differs")
	f("an unsteady opponent", func(r *Report) { r.Scenarios[5].Rounds[1].P50 = 90_000 }, 1, 2, CannotTell, "rung-fanotify-same differs")
	f("nothing to compare with", func(r *Report) { r.Scenarios[4].Status = Broken }, 0, 1, CannotTell, "no figure of rung-open-sleep-same")
	f("it adds nothing", func(r *Report) { *r.Scenarios[4].AddedP50NS = 0 }, 0, 1, CannotTell, "added nothing")
	f("fanotify adds nothing", func(r *Report) { *r.Scenarios[5].AddedP50NS = -5 }, 1, 1, CannotTell, "added nothing")
	f("noise", func(r *Report) { r.Machine.LoadBefore = ptr(9.0) }, 0, 0, CannotTell, "noisy machine")
}

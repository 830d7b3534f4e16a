// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// daemonEnv names the daemon's program to a child of the tests.
const daemonEnv = "ARBITER_BENCH_TEST_DAEMON"

// workOptions are those of work under a real daemon. When the test ends nothing may be left of it.
func workOptions(t *testing.T) Options {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts and fanotify permission events")
	}
	daemon, tmp := filepath.Join(t.TempDir(), "arbiterd"), t.TempDir()
	build := exec.Command("go", "build", "-o", daemon, "../cmd/arbiterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the daemon: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
			t.Errorf("got %v, %v left, want nothing", left, err)
		}
		if left := children(t); len(left) > 0 {
			t.Errorf("got children %v left, want none", left)
		}
	})
	o := testOptions(t)
	o.Scenarios, o.Samples, o.Env = Work(daemon), 1, append(o.Env, daemonEnv+"="+daemon, "TMPDIR="+tmp)
	return o
}

// TestWorkInterrupted ends a run in the middle of a build.
func TestWorkInterrupted(t *testing.T) {
	o := workOptions(t)
	s, ok := Find(o.Scenarios, "work-build-fanotify")
	if !ok {
		t.Fatal("no build under a daemon")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Scenarios, o.Samples, o.Rounds = []Scenario{s}, workRuns, MaxRounds
	o.Progress = writerFunc(func(b []byte) (int, error) {
		time.AfterFunc(100*time.Millisecond, cancel)
		return len(b), nil
	})
	if r, err := RunWork(ctx, o); r != nil || err == nil {
		t.Errorf("got %v, %v, want no report of a run that was interrupted", r, err)
	}
}

// TestWork does all work for real, under a real daemon.
func TestWork(t *testing.T) {
	r, err := RunWork(t.Context(), workOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		t.Run(s.ID, func(t *testing.T) {
			if s.Status == Unavailable && strings.HasSuffix(s.ID, "-lsm") && strings.Contains(s.Reason, "BPF LSM") && lsmWorks() != nil {
				return // as on most machines
			}
			if s.Status == Unavailable {
				t.Skip(s.Reason)
			}
			if s.Merged != nil && s.Merged.Max < int64(time.Millisecond) {
				t.Errorf("got %d ns at most, want what starting programs takes", s.Merged.Max)
			}
			if s.Baseline != "" && (s.Figures[FigureAsked] == 0 || s.Figures[FigureFailures] != 0) {
				t.Errorf("got %v, want that the daemon was asked and gave no failure verdict", s.Figures)
			}
			if s.Status != Measured || s.Samples != 2 || s.Baseline != "" && s.AddedP50NS == nil {
				t.Errorf("got %s %q, %d samples, want the work done twice and compared", s.Status, s.Reason, s.Samples)
			}
		})
	}
}

// TestWorkDaemonThatAllows: a daemon that refuses nothing is none.
func TestWorkDaemonThatAllows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := tryDaemon(path); err == nil || !strings.Contains(err.Error(), "want it refused") {
		t.Errorf("got %v, want an error", err)
	}
}

func TestWorkDaemonThatEnds(t *testing.T) {
	t.Setenv(childEnv, "1") // os.Args[0] is a daemon that refuses nothing, see childMain
	f := func(name, program, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			d, err := startWorkDaemon(t.Context(), program, kernelbridge.BackendFanotify, t.TempDir(), t.TempDir())
			if d != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, %v, want no daemon and %q", d, err, want)
			}
		})
	}
	f("at once", "false", "exit status 1")
	f("after it was of no use", os.Args[0], "want it refused")
}

// A run that is interrupted while the daemon starts does not wait until it has.
func TestWorkDaemonInterrupted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "arbiterd")
	if err := os.WriteFile(program, []byte("#!/bin/sh\nexec sleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	begin := time.Now()
	d, err := startWorkDaemon(ctx, program, kernelbridge.BackendFanotify, t.TempDir(), t.TempDir())
	if took := time.Since(begin); d != nil || err == nil || took > slowStart/2 {
		t.Errorf("got %v, %v after %v, want no daemon at once", d, err, took)
	}
}

// The work is cut, and says what it is; what cannot be a part is all of it.
func TestWorkPart(t *testing.T) {
	f := func(env, build, grep string) {
		t.Helper()
		t.Setenv(WorkPartEnv, env)
		all := works(workPart())
		if got := all[0].what; got != build {
			t.Errorf("%q: got %q, want %q", env, got, build)
		}
		if got := all[2].what; got != grep || len(all[2].files()) != all[2].least {
			t.Errorf("%q: got %q with %d files, want %q and each of them asked about", env, got, len(all[2].files()), grep)
		}
		if units := len(all[0].files()) / 2; all[0].least != units*(units+1) {
			t.Errorf("%q: got a build of %d units with %d opens at least, want each file to open all headers", env, units, all[0].least)
		}
	}
	f("", "compile, link and run 16 C files", "grep through 2000 files")
	f("8", "compile, link and run 2 C files", "grep through 240 files")
	f("16", "compile, link and run 1 C files", "grep through 120 files")
	f("17", "compile, link and run 16 C files", "grep through 2000 files")
	f("none", "compile, link and run 16 C files", "grep through 2000 files")
}

func TestWorkCheck(t *testing.T) {
	w := work{id: "count", want: "7"}
	if err := w.check([]byte(" 7\n")); err != nil {
		t.Errorf("got %v, want it accepted", err)
	}
	if err := w.check([]byte("6\n")); err == nil {
		t.Error("got no error, want one about work that is not done")
	}
}

func TestWorkTable(t *testing.T) {
	r := quietReport()
	r.Options.Samples = DefaultSamples
	plain := measured("work-grep", Baseline, "grep through 2000 files", "", Percentiles{P50: 12_000_000, Max: 19_000_000})
	asked := measured("work-grep-fanotify", Program, "the same, asked about, fanotify", "work-grep", Percentiles{P50: 30_000_000, Max: 50_000_000})
	asked.Figures = map[string]float64{FigureAsked: 2112, FigureVerdicts: 112, FigureKernelHits: 2000, FigureFailures: 0}
	plain.Samples, asked.Samples = 15, 15
	for _, ms := range []int64{30, 31, 28, 90, 29} {
		plain.Rounds = append(plain.Rounds, RoundReport{3, 0, Percentiles{P50: 12_000_000}})
		asked.Rounds = append(asked.Rounds, RoundReport{3, 0, Percentiles{P50: ms * 1_000_000}})
	}
	r.Scenarios = []ScenarioReport{plain, asked,
		{ID: "work-build", Mechanism: Baseline, Responder: "compile", Status: Unavailable, Reason: "looking for cc: not found; install it"}}
	r.addBaselines()
	r.Machine.LoadBefore = ptr(5.5)
	var b bytes.Buffer
	if err := (&WorkReport{r, WorkVerdict{noisy(r.Machine)}}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5 rounds in turns, 3 times each", "30.0        29.0-31.0  50.0       18.0    150.0   2112       112         2000       0    15", "unavailable: looking for cc", "\nnoisy: load 5.50"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
	b.Reset()
	r.Machine.CPUModel = "QEMU TCG CPU version 2.5+"
	r.Scenarios[1].Baseline = "work-grep"
	lost := r.Scenarios[1]
	lost.ID, lost.Baseline = "work-build-fanotify", "work-build"
	r.Scenarios = append(r.Scenarios, lost)
	if err := (&WorkReport{Report: r}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p50 multiple", "2.50        2.42-2.58  4.17       1.50    150.0   2112", "measured, but work-build was not"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("on an emulated machine: got\n%s\nwant %q in it", b.String(), want)
		}
	}
}

func TestWorkTableElsewhere(t *testing.T) {
	var b strings.Builder
	quietReport().Machine.write(&b)
	if strings.Contains(b.String(), "emulated") {
		t.Errorf("got\n%s\nwant no word of an emulated machine", b.String())
	}
}

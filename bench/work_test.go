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
			if s.Status == Unavailable {
				t.Skip(s.Reason)
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
			d, err := startWorkDaemon(program, t.TempDir(), t.TempDir())
			if d != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, %v, want no daemon and %q", d, err, want)
			}
		})
	}
	f("at once", "false", "exit status 1")
	f("after it was of no use", os.Args[0], "want it refused")
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
	asked := measured("work-grep-fanotify", Program, "the same, asked about", "work-grep", Percentiles{P50: 30_000_000, Max: 50_000_000})
	plain.Samples, asked.Samples = 15, 15
	r.Scenarios = []ScenarioReport{plain, asked,
		{ID: "work-build", Mechanism: Baseline, Responder: "compile", Status: Unavailable, Reason: "looking for cc: not found; install it"}}
	r.addBaselines()
	r.Machine.LoadBefore = ptr(5.5)
	var b bytes.Buffer
	if err := (&WorkReport{r, WorkVerdict{noisy(r.Machine)}}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"5 rounds in turns, 3 times each", "30.0  50.0       18.0    150.0    15", "unavailable: looking for cc", "\nnoisy: load 5.50"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
}

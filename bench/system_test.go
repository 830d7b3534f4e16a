// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// A tiny program can be executed, and no two are the same.
func TestTinyProgram(t *testing.T) {
	if bytes.Equal(tinyProgram(1), tinyProgram(2)) {
		t.Error("two programs are the same")
	}
	s := openSystem(system{id: "plain"}, 0)
	for range 2 {
		took, err := s.execute(t.TempDir())
		if err != nil || took <= 0 {
			t.Errorf("got %v, %v, want it executed", took, err)
		}
	}
}

// Outside of a machine that was made for it no system is started.
func TestSystemsNeedAMachine(t *testing.T) {
	t.Setenv(SystemsEnv, "")
	for _, s := range Systems("") {
		_, err := s.Open(Place{})
		var no *UnavailableError
		if !errors.As(err, &no) || !strings.Contains(no.Hint, "scripts/systems") {
			t.Errorf("%s: got %v, want it unavailable", s.Describe().ID, err)
		}
	}
}

// The arbiter's policy is one that it takes, and says what the others' say.
func TestSystemPolicy(t *testing.T) {
	for _, s := range systemsOf("") {
		if s.policy == "" {
			continue
		}
		if !strings.Contains(s.policy, systemDenied) {
			t.Errorf("%s: the policy does not name %s", s.id, systemDenied)
		}
		if !strings.HasPrefix(s.id, "arbiter") {
			continue
		}
		rs, err := rules.Load("system.yaml", []byte(s.policy), rules.Options{Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(rs.KernelRules(abi.EventExec)) > 0, s.id == "arbiter"; got != want {
			t.Errorf("%s: the kernel side decides %t, want %t", s.id, got, want)
		}
		if !strings.Contains(s.policy, "on_fail: deny") {
			t.Error("a failure verdict allows, so that it looks like an answer")
		}
	}
}

// A round ends what it has started, whatever becomes of it.
func TestSystemRound(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a folder below /run")
	}
	t.Cleanup(func() { os.RemoveAll(systemFolder) })
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	stopped := 0
	broken := errors.New("it does not stop")
	s := openSystem(system{id: "plain", what: "a test"}, cpus[0])
	out, err := s.Round(RoundOptions{Budget: workBudget}, make([]uint32, 3))
	if err != nil || out.Samples != 3 {
		t.Errorf("got %d samples, %v, want 3", out.Samples, err)
	}
	refused := errors.New("this thread cannot be confined")
	s.system.start = func(context.Context, string, string) (inForce, error) {
		return inForce{stop: func() error { stopped++; return broken }}, nil
	}
	s.system.enter = func() error { return refused }
	if _, err := s.Round(RoundOptions{Budget: workBudget}, make([]uint32, 3)); !errors.Is(err, refused) || !errors.Is(err, broken) || stopped != 1 {
		t.Errorf("got %v, stopped %d times, want both faults and the system stopped once", err, stopped)
	}
	left, err := filepath.Glob("/run/arbiter-bench-*")
	if err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left, want nothing", left, err)
	}
}

// A round is no result in which a program was not asked about, or somebody got a failure verdict.
func TestSystemCounts(t *testing.T) {
	t.Cleanup(func() { os.RemoveAll(systemFolder) })
	if err := os.MkdirAll(systemAllowed, 0o755); err != nil {
		t.Fatal(err)
	}
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, after workCounts, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			now := workCounts{execs: 7, failed: 1}
			counts := func() (workCounts, error) {
				c := now
				now = after
				return c, nil
			}
			s := openSystem(system{id: "plain", what: "a test"}, cpus[0])
			out, done := Outcome{}, make(chan error)
			go func() { // its thread is pinned for good
				done <- s.executeAll(RoundOptions{Budget: workBudget}, time.Now(), make([]uint32, 2), counts, &out)
			}()
			if err := <-done; out.Samples != 2 || want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %d samples, %v, want 2 and %q", out.Samples, err, want)
			}
		})
	}
	f("each asked about", workCounts{execs: 9, failed: 1}, "")
	f("one not asked about", workCounts{execs: 8, failed: 1}, "1 execs were asked about")
	f("a failure verdict", workCounts{execs: 9, failed: 2}, "1 failure verdicts")
}

// The end of a session ends the round that is under way, and what it has started.
func TestSystemInterrupted(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a folder below /run")
	}
	t.Cleanup(func() { os.RemoveAll(systemFolder) })
	started, stopped := make(chan struct{}), false
	s := openSystem(system{id: "test", what: "one that refuses nothing"}, 0)
	s.system.start = func(context.Context, string, string) (inForce, error) {
		close(started)
		return inForce{stop: func() error { stopped = true; return nil }}, nil
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Round(RoundOptions{Budget: workBudget}, make([]uint32, 3))
		done <- err
	}()
	<-started
	if err := s.Close(); err != nil || !stopped {
		t.Errorf("got %v, stopped: %t, want the system stopped when the session has ended", err, stopped)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the round interrupted", err)
	}
}

// fapolicyd has the configuration of its package, but for what this machine has not.
func TestFapolicydConfig(t *testing.T) {
	got, err := fapolicydConfig("# uid of whom\nq_size = 640\nuid = fapolicyd\ngid=fapolicyd\ntrust = rpmdb,file\nintegrity = none\n")
	if want := "# uid of whom\nq_size = 640\nuid = root\ngid = root\ntrust = file\nintegrity = none\n"; err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := fapolicydConfig("uid = fapolicyd\n"); err == nil || !strings.Contains(err.Error(), "got 1 of the lines [gid trust uid]") {
		t.Errorf("got %v, want an error about lines that are missing", err)
	}
}

// A program that went into the background is found by its path, and ended.
func TestEndProgram(t *testing.T) {
	program := filepath.Join(t.TempDir(), "sleeper")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := endProgram(program); err != nil {
		t.Errorf("got %v of a program that does not run, want nothing done", err)
	}
	cmd := exec.Command(program, "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := endProgram(program); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("got %v, want it terminated", err)
	}
}

func systemsReport() *Report {
	r := quietReport()
	row := func(id string, m Mechanism, p50s ...int64) {
		s := measured(systemPrefix+id, m, id, "", Percentiles{P50: p50s[0], P99: 9_000_000, Max: 9_500_000})
		if id != "plain" {
			s.Baseline = systemPrefix + "plain"
		}
		for _, p := range p50s {
			s.Rounds = append(s.Rounds, RoundReport{200, 0, Percentiles{P50: p}})
		}
		r.Scenarios = append(r.Scenarios, s)
	}
	r.Scenarios = nil
	row("plain", Baseline, 1_000_000, 1_000_000, 1_010_000)
	row("arbiter", System, 1_100_000, 1_105_000, 1_100_000)
	row("fapolicyd", System, 2_000_000, 2_000_000, 2_020_000)
	row("arbiter-worker", System, 1_500_000, 1_500_000, 1_500_000)
	r.addBaselines()
	return r
}

func TestJudgeSystems(t *testing.T) {
	f := func(name string, change func(r *Report), want, why string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := systemsReport()
			change(r)
			if b := judgeSystems(r).Bars[0]; b.Outcome != want || !strings.Contains(b.Why, why) {
				t.Errorf("got %s, want %s %q", &b, want, why)
			}
		})
	}
	at := func(row int, p50 int64) func(r *Report) { return func(r *Report) { r.Scenarios[row].Median.P50 = p50 } }
	f("met", func(*Report) {}, Met, "")
	f("missed", at(1, 1_400_000), Missed, "")
	f("within the error of the limit", at(1, 1_201_000), CannotTell, "moved by 1.0 % without a system, 0.4 % with the arbiter, 1.0 % with fapolicyd")
	f("an unsteady baseline", func(r *Report) { r.Scenarios[0].Rounds[2].P50 = 1_900_000 }, CannotTell, "moved by 90.0 %")
	f("an unsteady arbiter", func(r *Report) { r.Scenarios[1].Rounds[2].P50 = 1_300_000 }, CannotTell, "18.2 % with the arbiter")
	f("an unsteady fapolicyd", func(r *Report) { r.Scenarios[2].Rounds[2].P50 = 2_900_000 }, CannotTell, "45.0 % with fapolicyd")
	f("fapolicyd adds nothing", func(r *Report) { r.Scenarios[1].Median.P50, r.Scenarios[2].Median.P50 = 990_000, 990_000 }, CannotTell, "nothing to compare with")
	f("one round", func(r *Report) {
		for i := range r.Scenarios {
			r.Scenarios[i].Rounds = r.Scenarios[i].Rounds[:1]
		}
	}, CannotTell, "1 rounds of exec-plain, at least 3")
	f("less than the baseline", at(1, 900_000), Met, "")
	f("no fapolicyd", func(r *Report) { r.Scenarios[2].Status = Unavailable }, CannotTell, "no figure of exec-fapolicyd")
	f("noise", func(r *Report) { r.Machine.LoadBefore = ptr(9.0) }, CannotTell, "noisy")
}

func TestSystemsTable(t *testing.T) {
	r := systemsReport()
	r.Scenarios = append(r.Scenarios, ScenarioReport{ID: "exec-apparmor", Mechanism: System, Responder: "AppArmor", Status: Unavailable, Reason: "looking for AppArmor; boot a kernel that has it on"})
	report := &SystemsReport{Report: r, Versions: []string{"fapolicyd 1.1.7-5, Debian"}, Verdict: judgeSystems(r)}
	var b bytes.Buffer
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"version    fapolicyd 1.1.7-5, Debian\n", "200 new programs each", "unavailable: looking for AppArmor", "1100  0.00  9000  9501        100   100000", "0.10; ≤ 0.20 bar: met", "the same where a worker decides: 0.50; ≤ 0.20 bar: missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
	b.Reset()
	r.Machine.CPUModel = "QEMU TCG CPU version 2.5+"
	if err := report.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"p50 multiple", "1.10  0.00  9.00  9.50       0.10   100000"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("on an emulated machine: got\n%s\nwant %q in it", b.String(), want)
		}
	}
}

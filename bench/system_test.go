// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/rules"
)

// A tiny program can be executed, and no two are the same.
func TestTinyProgram(t *testing.T) {
	if bytes.Equal(tinyProgram(1), tinyProgram(2)) {
		t.Error("two programs are the same")
	}
	s := &systemSession{system: system{id: "plain"}}
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
		if s.id != "arbiter" {
			continue
		}
		if _, err := rules.Load("system.yaml", []byte(s.policy), rules.Options{Epoch: 1}); err != nil {
			t.Error(err)
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
	s := &systemSession{cpu: cpus[0], system: system{id: "plain", what: "a test"}}
	out, err := s.Round(RoundOptions{Budget: workBudget}, make([]uint32, 3))
	if err != nil || out.Samples != 3 {
		t.Errorf("got %d samples, %v, want 3", out.Samples, err)
	}
	refused := errors.New("this thread cannot be confined")
	s.system.start = func(string, string) (func() error, error) { return func() error { stopped++; return broken }, nil }
	s.system.enter = func() error { return refused }
	if _, err := s.Round(RoundOptions{Budget: workBudget}, make([]uint32, 3)); !errors.Is(err, refused) || !errors.Is(err, broken) || stopped != 1 {
		t.Errorf("got %v, stopped %d times, want both faults and the system stopped once", err, stopped)
	}
	left, err := filepath.Glob("/run/arbiter-bench-*")
	if err != nil || len(left) != 0 {
		t.Errorf("got %v, %v left, want nothing", left, err)
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
	row("arbiter", System, 1_100_000)
	row("fapolicyd", System, 2_000_000)
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
	f("within the error of the limit", at(1, 1_201_000), CannotTell, "moved by 10.0 µs")
	f("an unsteady baseline", func(r *Report) { r.Scenarios[0].Rounds[2].P50 = 1_900_000 }, CannotTell, "moved by 900 µs")
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
	for _, want := range []string{"version    fapolicyd 1.1.7-5, Debian\n", "200 new programs each", "unavailable: looking for AppArmor", "1100  0.00  9000  9501        100   100000", "0.10; ≤ 0.20 bar: met"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), want)
		}
	}
}

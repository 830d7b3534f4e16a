// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"os"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// TestBootRules: nothing of a boot is refused, and the rules look at each event.
func TestBootRules(t *testing.T) {
	rs, err := rules.Load("boot.yaml", bootRules(), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, a := range newBootTrace(2000).unique {
		if rs.Consulted(a.event)&abi.FieldExe == 0 {
			t.Fatalf("%s: got facts %b that rules look at, want the executable among them", a.event, rs.Consulted(a.event))
		}
		r := &abi.Request{Event: a.event, Access: a.access, Have: abi.AllFields}
		r.PathLen = uint32(copy(r.PathBuf[:], a.path))
		r.ExeLen = uint32(copy(r.ExeBuf[:], a.exe))
		if d := rs.Decide(r); d.Verdict.Action != rules.Allow {
			t.Fatalf("event %d, %s of %q: got %+v, want it allowed", i, a.event, a.path, d)
		}
	}
}

func bootReport() *Report {
	r := quietReport()
	r.Options.Samples = BootEvents
	row := func(id string, m Mechanism, responder, baseline string, total float64) {
		s := measured(id, m, responder, baseline, Percentiles{280, 300, 320, 9000, 90_000})
		s.Samples = 5 * BootEvents
		s.Figures = map[string]float64{FigureBoot: total}
		r.Scenarios = append(r.Scenarios, s)
	}
	r.Scenarios = nil
	row(bootID, NativeQueue, "other CPU, 1001 rules, cold cache", "", 41_000_000)
	r.Scenarios[0].Figures[FigureMisses] = 0.25
	row(bootPrefix+openBaselineID, Baseline, "open, nobody listens", "", 140_000_000)
	row("boot-fanotify-same", Fanotify, "same CPU, blocking read", bootPrefix+openBaselineID, 940_000_000)
	return r
}

func TestBootTable(t *testing.T) {
	r := bootReport()
	r.Scenarios = append(r.Scenarios, ScenarioReport{ID: "boot-seccomp-same", Mechanism: Seccomp, Responder: "same CPU", Status: Unavailable, Reason: "run as root"})
	var b bytes.Buffer
	if err := (&BootReport{r, judgeBoot(r)}).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "table_boot.txt", b.String())
}

func TestJudgeBoot(t *testing.T) {
	f := func(name string, total float64, failed int, noisy bool, want, wantAnswered string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := bootReport()
			r.Scenarios[0].Figures[FigureBoot], r.Scenarios[0].Failed = total, failed
			if noisy {
				r.Machine.LoadBefore = ptr(9.0)
			}
			if b := judgeBoot(r).Bars; len(b) != 2 || b[0].Outcome != want || b[1].Outcome != wantAnswered {
				t.Errorf("got %+v, want %s and %s", b, want, wantAnswered)
			}
		})
	}
	f("met", BootBarNS, 0, false, Met, Met)
	f("missed", BootBarNS+1, 0, false, Missed, Met)
	f("met all the same", BootBarNS, 0, true, Met, Met)
	f("missed in noise", BootBarNS+1, 0, true, CannotTell, Met)
	f("quick, without an answer", BootBarNS, 1, false, Met, Missed)
	f("without an answer in noise", BootBarNS, 1, true, Met, CannotTell)
}

// TestBoot boots for real, briefly.
func TestBoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts, fanotify permission events and BPF")
	}
	o := testOptions(t)
	o.Samples, o.Scenarios = 1190, Boot()
	r, err := RunBoot(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Scenarios {
		t.Run(s.ID, func(t *testing.T) {
			if s.Status == Unavailable {
				t.Skip(s.Reason)
			}
			if s.Status != Measured || s.Samples != 2*1190 || s.Figures[FigureBoot] <= 0 {
				t.Fatalf("got %s %q, %d samples, figures %v, want two boots", s.Status, s.Reason, s.Samples, s.Figures)
			}
			// A cold cache has not seen what comes for the first time.
			if misses := s.Figures[FigureMisses]; s.ID == bootID && (misses < 0.15 || misses > 0.5) {
				t.Errorf("the cache did not have %.2f of the events, want the 240 different ones of 1190 and few more", misses)
			}
		})
	}
}

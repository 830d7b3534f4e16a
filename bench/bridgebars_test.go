// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"strings"
	"testing"
)

// bridgeReport is a run on a quiet machine with a row for each bar, all met.
func bridgeReport() *Report {
	r := quietReport()
	r.Scenarios = append(r.Scenarios,
		measured("gate-same", Gate, "same CPU", "", Percentiles{P50: 9000}), measured("gate-other", Gate, "other CPU", "", Percentiles{P50: 48000}),
		measured(hookNoRuleID, HookCost, "no rule", "", Percentiles{P50: 18}), measured(kernelCacheID, KernelCache, "a hit", "", Percentiles{P50: 140}))
	lots := measured(throughputID, NativeQueue, "back to back", "", Percentiles{P50: 280})
	lots.Figures = map[string]float64{FigureVerdictNS: 300}
	r.Scenarios = append(r.Scenarios, lots)
	r.addBaselines()
	return r
}

func TestBridgeBars(t *testing.T) {
	f := func(name string, change func(rows map[string]*ScenarioReport, m *Machine), bar, want, text string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := bridgeReport()
			rows := map[string]*ScenarioReport{}
			for i := range r.Scenarios {
				rows[r.Scenarios[i].ID] = &r.Scenarios[i]
			}
			change(rows, &r.Machine)
			found := 0
			for _, b := range judge(r).Bars {
				if !strings.HasPrefix(b.Name, bar) {
					continue
				}
				found++
				if b.Outcome != want || !strings.Contains(b.String(), text) {
					t.Errorf("got %s, want %s and %q", &b, want, text)
				}
			}
			if found == 0 {
				t.Errorf("no bar %q", bar)
			}
		})
	}
	type rows = map[string]*ScenarioReport
	noisy := func(m *Machine) { m.LoadBefore = ptr(9.0) }
	f("all met", func(rows, *Machine) {}, "", Met, "")
	f("seccomp at the bar", func(r rows, _ *Machine) { r["seccomp-same"].Median.P50 = 8 * 480 }, "best seccomp", Met, "8; ≥ 8 bar")
	f("seccomp below it", func(r rows, _ *Machine) { r["seccomp-same"].Median.P50 = 8*480 - 1 }, "best seccomp", Missed, "")
	f("no seccomp", func(r rows, _ *Machine) { r["seccomp-same"].Status = Unavailable }, "best seccomp", CannotTell, "no figure of seccomp-same")
	f("the best tail of fanotify", func(r rows, _ *Machine) { r["fanotify-other"].Median.P99 = 9049 }, "best fanotify", Missed, "9.99; ≥ 10 bar")
	f("a slow gate", func(r rows, _ *Machine) { r["gate-other"].Median.P50 = 49001 }, "a bare sleep at the gate : a blocking fanotify event, p50, other", Missed, "")
	f("a slow hook", func(r rows, _ *Machine) { r[hookNoRuleID].Median.P50 = 31 }, "a hook", Missed, "31 ns; ≤ 30 ns")
	f("a slow hit", func(r rows, _ *Machine) { r[kernelCacheID].Median.P50 = 151 }, "a hit", Missed, "")
	f("a slow worker", func(r rows, _ *Machine) { r[throughputID].Figures[FigureVerdictNS] = 1001 }, "verdicts", Missed, "999000/s; ≥ 1000000/s")
	f("a quick worker and noise", func(_ rows, m *Machine) { noisy(m) }, "verdicts", Met, "3333333/s")
	f("a slow worker and noise", func(r rows, m *Machine) { noisy(m); r[throughputID].Figures[FigureVerdictNS] = 1001 }, "verdicts", CannotTell, "noisy")
	f("seccomp was left out", func(r rows, _ *Machine) { r["seccomp-other"].ID = "another" }, "best seccomp", CannotTell, "without seccomp-other")
	f("fanotify broke", func(r rows, _ *Machine) { r["fanotify-other-poll"].Status = Broken }, "best fanotify", CannotTell, "without fanotify-other-poll")
	f("failures in a ratio", func(r rows, _ *Machine) { r["native-other"].Failed = 5000 }, "best", CannotTell, "5000 of 100000 asks of native-other failed, one of 1,000 may")
	f("failures in a time", func(r rows, _ *Machine) { r[kernelCacheID].Failed = 5000 }, "a hit", CannotTell, "kernel-cache failed")
	f("failures make a worker slower", func(r rows, _ *Machine) { r[throughputID].Failed = 5000 }, "verdicts", Met, "")
	emulated := func(_ rows, m *Machine) {
		m.CPUModel, m.Counted = "QEMU TCG CPU version 2.5+", true
	}
	f("a time of an emulated machine", emulated, "a hit", CannotTell, "emulated, times are instructions")
	f("a rate of an emulated machine", emulated, "verdicts", CannotTell, "emulated")
	f("a ratio of an emulated machine", emulated, "best", Met, "")
	f("an empty round", func(r rows, _ *Machine) { r[throughputID].EmptyRounds = 1 }, "verdicts", CannotTell, "1 of 1 rounds of native-throughput had no sample")
	f("a ratio and noise", func(_ rows, m *Machine) { noisy(m) }, "best", CannotTell, "noisy")
}

// What is added is compared with what is added, in a line of its own.
func TestBridgeAdded(t *testing.T) {
	f := func(name string, change func(*Report), want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := bridgeReport()
			change(r)
			r.Verdict = judge(r)
			var b strings.Builder
			if err := r.WriteTable(&b); err != nil {
				t.Fatal(err)
			}
			for _, w := range want {
				if !strings.Contains(b.String(), w) {
					t.Errorf("got\n%s\nwant %q in it", b.String(), w)
				}
			}
			if n := strings.Count(b.String(), "what gate-"); n != len(want) {
				t.Errorf("got %d lines, want %d", n, len(want))
			}
		})
	}
	const other = "what gate-other adds : what fanotify-other adds, p50 = 1 : 0.99\n"
	f("both", func(*Report) {}, "what gate-same adds : what fanotify-same adds, p50 = 1 : 1.06\n", other)
	f("fanotify adds nothing", func(r *Report) { *r.Scenarios[4].AddedP50NS = 0 }, other)
	f("noise", func(r *Report) { r.Machine.LoadBefore = ptr(9.0) })
}

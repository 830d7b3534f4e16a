// SPDX-License-Identifier: Apache-2.0

package bench

// The bars of the bridge comparison beside FactorBar and P50BarNS.
const (
	// HookBarNS is what a hook may take at p50 that no rule is about.
	HookBarNS = 30
	// KernelHitBarNS is what a hit of the kernel's cache may take at p50.
	KernelHitBarNS = 150
	// SeccompBar is how many times the native queue's p50 has to go into the best seccomp one.
	SeccompBar = 8
	// P99Bar is the same of p99 and fanotify.
	P99Bar = 10
	// RateBar is how many verdicts a second one worker has to give.
	RateBar = 1_000_000
)

// bridgeBars are the bars of a finished run. Of an opponent the row counts that is best
// for it.
func bridgeBars(r *Report) []barOf {
	native := nativeScenario{}.Describe().ID
	seccomp := idOr(best(r, Seccomp), "seccomp-same")
	tail := idOr(lowest(r, Fanotify, p99), "fanotify-same")
	of := func(id string, of func(*ScenarioReport) float64) func(map[string]*ScenarioReport) float64 {
		return func(rows map[string]*ScenarioReport) float64 { return of(rows[id]) }
	}
	over := func(a, b string, of func(*ScenarioReport) float64) func(map[string]*ScenarioReport) float64 {
		return func(rows map[string]*ScenarioReport) float64 { return of(rows[a]) / max(of(rows[b]), 1) }
	}
	// The gate's figure has no hook and no open in it, so that it says nothing of an ask that sleeps: rungs does.
	sleep := func(name, gate, blocking string) barOf {
		return barOf{name: "a bare sleep at the gate : a blocking fanotify event, p50, " + name, limit: 1, nature: ratio,
			rows: []string{gate, blocking}, value: over(gate, blocking, p50)}
	}
	return []barOf{
		{name: "best seccomp : native queue, p50", limit: SeccompBar, least: true, nature: ratio,
			opponent: Seccomp, rows: []string{native, seccomp}, value: over(seccomp, native, p50)},
		{name: "best fanotify : native queue, p99", limit: P99Bar, least: true, nature: ratio,
			opponent: Fanotify, rows: []string{native, tail}, value: over(tail, native, p99)},
		sleep("same CPU", "gate-same", "fanotify-same"),
		sleep("other CPU", "gate-other", "fanotify-other"),
		{name: "a hook without a rule, p50", unit: "ns", limit: HookBarNS, nature: timed,
			rows: []string{hookNoRuleID}, value: of(hookNoRuleID, p50)},
		{name: "a hit of the kernel's cache, p50", unit: "ns", limit: KernelHitBarNS, nature: timed,
			rows: []string{kernelCacheID}, value: of(kernelCacheID, p50)},
		{name: "verdicts of one worker", unit: "/s", limit: RateBar, least: true, nature: timed, answered: true,
			rows: []string{throughputID}, value: of(throughputID, func(s *ScenarioReport) float64 { return rate(s.Figures[FigureVerdictNS]) })},
	}
}

// rate returns how many a second there are of what takes so many nanoseconds.
func rate(ns float64) float64 {
	if ns <= 0 {
		return 0
	}
	return 1e9 / ns
}

func p99(s *ScenarioReport) float64 { return float64(s.Median.P99) }

func idOr(s *ScenarioReport, id string) string {
	if s == nil {
		return id
	}
	return s.ID
}

// judgeBars compares the measured rows with bars.
func judgeBars(r *Report, bars []barOf, noisy []string) []Bar {
	rows := measuredRows(r)
	var out []Bar
	for _, b := range bars {
		out = append(out, b.judge(r, rows, noisy))
	}
	return out
}

// measuredRows returns the measured rows by their ID.
func measuredRows(r *Report) map[string]*ScenarioReport {
	rows := map[string]*ScenarioReport{}
	for i := range r.Scenarios {
		if s := &r.Scenarios[i]; s.Status == Measured {
			rows[s.ID] = s
		}
	}
	return rows
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	// FactorBar is how many times faster than the best fanotify figure of the
	// same run the native queue has to be, at p50.
	FactorBar = 20
	// P50BarNS is what the native queue may take at p50.
	P50BarNS = 1000
	// noisySteal is the share of time, in per cent, that the hypervisor may take
	// from the machine during a run whose figures are judged.
	noisySteal = 2.0
	// noisyOthers is the same of other processes.
	noisyOthers = 5.0
)

// Outcomes of a bar.
const (
	Met        = "met"
	Missed     = "missed"
	CannotTell = "cannot tell"
)

// Verdict is what a run says about the bars.
type Verdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	// The rows that are compared, "" when there is no such figure. Native is the
	// queue with its worker hot on another CPU.
	Native   string `json:"native,omitempty"`
	Fanotify string `json:"best_fanotify,omitempty"`
	Seccomp  string `json:"best_seccomp,omitempty"`
	Ptrace   string `json:"best_ptrace,omitempty"`
	// How many times the native queue's p50 goes into theirs; 0 unknown. The
	// added ones compare what asking adds to a call.
	FanotifyFactor      float64 `json:"fanotify_factor,omitempty"`
	FanotifyAddedFactor float64 `json:"fanotify_added_factor,omitempty"`
	SeccompFactor       float64 `json:"seccomp_factor,omitempty"`
	SeccompAddedFactor  float64 `json:"seccomp_added_factor,omitempty"`
	PtraceFactor        float64 `json:"ptrace_factor,omitempty"`
	PtraceAddedFactor   float64 `json:"ptrace_added_factor,omitempty"`
	// Bar is the bar of FactorBar, P50Bar that of P50BarNS.
	Bar    string `json:"factor_bar"`
	P50Bar string `json:"p50_bar"`
	Why    string `json:"why,omitempty"`  // when a bar cannot be told
	Bars   []Bar  `json:"bars,omitempty"` // the others
	// Added are of p50: how many times what a bare sleep at the gate adds goes into what a blocking fanotify
	// event adds to its open.
	Added []Factor `json:"added_factors,omitempty"`
}

// judge compares the rows of a finished run.
func judge(r *Report) Verdict {
	v := Verdict{Noisy: noisy(r.Machine), Bar: CannotTell, P50Bar: CannotTell}
	v.Bars = judgeBars(r, bridgeBars(r), v.Noisy)
	native := nativeRow(r)
	fanotify, seccomp, ptrace := best(r, Fanotify), best(r, Seccomp), best(r, Ptrace)
	var missing []string
	for _, m := range []struct {
		row  *ScenarioReport
		id   *string
		name string
	}{{native, &v.Native, "native queue"}, {fanotify, &v.Fanotify, "fanotify"}, {seccomp, &v.Seccomp, ""}, {ptrace, &v.Ptrace, ""}} {
		if m.row != nil {
			*m.id = m.row.ID
		} else if m.name != "" { // no bar above rests on the others
			missing = append(missing, "no "+m.name+" figure")
		}
	}
	v.FanotifyFactor, v.FanotifyAddedFactor = factors(native, fanotify)
	v.SeccompFactor, v.SeccompAddedFactor = factors(native, seccomp)
	v.PtraceFactor, v.PtraceAddedFactor = factors(native, ptrace)
	switch {
	case len(v.Noisy) > 0:
		v.Why = "noisy machine, " + strings.Join(v.Noisy, ", ")
		return v
	case len(missing) > 0:
		v.Why = strings.Join(missing, ", ")
	}
	rows := measuredRows(r)
	for _, f := range []Factor{{Ours: "gate-same", Theirs: "fanotify-same"}, {Ours: "gate-other", Theirs: "fanotify-other"}} {
		v.Added = append(v.Added, addedFactor(rows, f.Ours, f.Theirs)...)
	}
	if native == nil {
		return v
	}
	if v.Why = cmp.Or(v.Why, native.Doubt()); native.Doubt() != "" {
		return v
	}
	if r.Machine.Emulated() {
		v.Why = cmp.Or(v.Why, "emulated, "+r.Machine.Times())
	} else {
		v.P50Bar = metIf(native.Median.P50 <= P50BarNS)
	}
	if fanotify == nil {
		return v
	}
	if why := cmp.Or(fanotify.Doubt(), untried(r, Fanotify)); why != "" {
		v.Why = strings.TrimPrefix(v.Why+", "+why, ", ")
		return v
	}
	v.Bar = metIf(v.FanotifyFactor >= FactorBar)
	return v
}

// untried says which variants of a mechanism of Bridge a run lacks: the best one may be among those that were left out or
// broke. What the machine cannot do is nothing that it lacks. "" for none, and for no mechanism.
func untried(r *Report, m Mechanism) string {
	if m == "" {
		return ""
	}
	var missing []string
	for _, s := range Bridge() {
		i := s.Describe()
		if i.Mechanism == m && !slices.ContainsFunc(r.Scenarios, func(s ScenarioReport) bool {
			return s.ID == i.ID && (s.Status == Measured || s.Status == Unavailable)
		}) {
			missing = append(missing, i.ID)
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "the best is not known without " + strings.Join(missing, ", ")
}

func metIf(ok bool) string {
	if ok {
		return Met
	}
	return Missed
}

// nativeRow returns the figure that the bars are about: the native queue as it is
// meant to be used, not the best of its variants.
func nativeRow(r *Report) *ScenarioReport {
	id := nativeScenario{}.Describe().ID
	i := slices.IndexFunc(r.Scenarios, func(s ScenarioReport) bool { return s.ID == id && s.Status == Measured })
	if i < 0 {
		return nil
	}
	return &r.Scenarios[i]
}

// best returns the measured row of the mechanism with the lowest p50.
func best(r *Report, m Mechanism) *ScenarioReport { return lowest(r, m, p50) }

// lowest returns the measured row of the mechanism with the lowest value.
func lowest(r *Report, m Mechanism, of func(*ScenarioReport) float64) *ScenarioReport {
	var found *ScenarioReport
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Mechanism == m && s.Status == Measured && (found == nil || of(s) < of(found)) {
			found = s
		}
	}
	return found
}

// factors returns how many times the native p50 goes into the other's, whole and added.
func factors(native, other *ScenarioReport) (whole, added float64) {
	if native == nil || other == nil || native.Median.P50 <= 0 {
		return 0, 0
	}
	n := float64(native.Median.P50)
	whole = float64(other.Median.P50) / n
	if other.AddedP50NS != nil {
		added = float64(*other.AddedP50NS) / n
	}
	return whole, added
}

// addedFactor returns how many times what one row adds goes into what another one adds, nothing where that cannot
// be said.
func addedFactor(rows map[string]*ScenarioReport, ours, theirs string) []Factor {
	o, t := rows[ours], rows[theirs]
	if o == nil || t == nil || o.Doubt()+t.Doubt() != "" || o.AddedP50NS == nil || t.AddedP50NS == nil || min(*o.AddedP50NS, *t.AddedP50NS) <= 0 {
		return nil
	}
	return []Factor{{ours, theirs, float64(*t.AddedP50NS) / float64(*o.AddedP50NS)}}
}

// noisy returns why the machine was too noisy for a verdict. One that counts instructions counts its own alone, and
// vmrun starts nothing in it but the program.
func noisy(m Machine) []string {
	if m.Counted {
		return nil
	}
	var why []string
	switch limit := float64(m.CPUs) / 2; {
	case m.LoadBefore == nil:
		why = append(why, "the load before the start is unknown")
	case *m.LoadBefore > limit:
		why = append(why, fmt.Sprintf("load %.2f before the start, at most %.1f (half the CPUs) is quiet", *m.LoadBefore, limit))
	}
	if m.Emulated() {
		why = append(why, "what else the host that emulates has to do is unknown: measure by scripts/systems, which counts instructions")
	}
	for _, share := range []struct {
		got   *float64
		limit float64
		what  string
	}{
		{m.StealPercent, noisySteal, "the time was stolen by the hypervisor"},
		{m.OthersPercent, noisyOthers, "the time went to other processes"},
		{m.RunStealPercent, noisySteal, "the time of the run's CPUs was stolen by the hypervisor"},
		{m.RunOthersPercent, noisyOthers, "the time of the run's CPUs went to other processes"},
	} {
		if share.got != nil && *share.got > share.limit {
			why = append(why, fmt.Sprintf("%.1f %% of %s, at most %.0f %% is quiet", *share.got, share.what, share.limit))
		}
	}
	return why
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// SystemBar is what the arbiter may add to the exec of a new program, as a part of what
	// fapolicyd adds.
	SystemBar = 0.2
	// systemBudget bounds a round: hundreds of programs on an emulated machine.
	systemBudget = 3 * time.Minute
)

// SystemsReport is one run of the comparison of whole systems.
type SystemsReport struct {
	*Report
	Versions []string          `json:"versions,omitempty"` // of what is compared
	Policies map[string]string `json:"policies"`           // by the ID of the row
	Verdict  SystemsVerdict    `json:"verdict"`
}

// SystemsVerdict is what a run says about the bar.
type SystemsVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	Bars  []Bar    `json:"bars"`
}

// RunSystems is Run for the scenarios of Systems. versions are for the report.
func RunSystems(ctx context.Context, o Options, versions []string) (*SystemsReport, error) {
	if o.RoundBudget == 0 {
		o.RoundBudget = systemBudget
	}
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	r.Machine.OthersPercent, r.Machine.RunOthersPercent = nil, nil // the systems are other processes
	report := &SystemsReport{Report: r, Versions: versions, Policies: map[string]string{}, Verdict: judgeSystems(r)}
	for _, s := range systemsOf("") {
		if s.policy != "" {
			report.Policies[systemPrefix+s.id] = s.policy
		}
	}
	return report, err
}

// judgeSystems compares what is added, by rules that the kernel side decides and by rules that a
// worker does.
func judgeSystems(r *Report) SystemsVerdict {
	v := SystemsVerdict{Noisy: noisy(r.Machine)}
	v.Bars = []Bar{
		judgeSystem(r, "what the arbiter adds to the exec of a new program : what fapolicyd adds, p50", "arbiter", v.Noisy),
		judgeSystem(r, "the same where a worker decides", "arbiter-worker", v.Noisy),
	}
	return v
}

// judgeSystem compares one of our rows. An emulated machine does not see what disturbs its host,
// so how far a row moved between its rounds is taken for its error: what is neither surely met nor
// surely missed cannot be told.
func judgeSystem(r *Report, name, id string, noise []string) Bar {
	plain, ours, theirs := systemPrefix+"plain", systemPrefix+id, systemPrefix+"fapolicyd"
	ids := []string{plain, ours, theirs}
	added := func(rows map[string]*ScenarioReport, id string) float64 { return p50(rows[id]) - p50(rows[plain]) }
	b := judgeBars(r, []barOf{{name: name, limit: SystemBar, nature: ratio,
		rows: ids, value: func(rows map[string]*ScenarioReport) float64 {
			return max(added(rows, ours), 0) / max(added(rows, theirs), 1)
		}}}, noise)[0]
	if b.Outcome == CannotTell {
		return b
	}
	rows := measuredRows(r)
	moved := map[string]float64{}
	for _, id := range ids {
		if n := len(rows[id].Rounds); n < systemRounds {
			b.Outcome, b.Why = CannotTell, fmt.Sprintf("%d rounds of %s, at least %d say how far it moves", n, id, systemRounds)
			return b
		}
		moved[id] = spread(rows[id])
	}
	if added(rows, theirs) <= 0 {
		b.Outcome, b.Why = CannotTell, "fapolicyd added nothing, so there is nothing to compare with"
		return b
	}
	off := func(id string) float64 { return moved[id] + moved[plain] } // the error of what is added
	least := (added(rows, ours) - off(ours)) / (added(rows, theirs) + off(theirs))
	most := (added(rows, ours) + off(ours)) / max(added(rows, theirs)-off(theirs), 1)
	if least <= SystemBar && most > SystemBar {
		share := func(id string) float64 { return 100 * moved[id] / max(p50(rows[id]), 1) }
		b.Outcome, b.Why = CannotTell, fmt.Sprintf("between their rounds p50 moved by %.1f %% without a system, %.1f %% with the arbiter, %.1f %% with fapolicyd",
			share(plain), share(ours), share(theirs))
	}
	return b
}

// systemRounds is of how many rounds it can be said how far they are apart.
const systemRounds = 3

// spread is how far apart the p50 of the rounds are.
func spread(s *ScenarioReport) float64 {
	all := roundsP50(s)
	return float64(all[len(all)-1] - all[0])
}

// WriteJSON writes the report, indented, with a final newline.
func (r *SystemsReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal.
func (r *SystemsReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	for _, v := range r.Versions {
		fmt.Fprintf(&b, "version    %s\n", v)
	}
	fmt.Fprintf(&b, "run        %d rounds in turns, %d new programs each, from fork to exit\n\n", r.Options.Rounds, min(r.Options.Samples, systemSamples))
	lines := [][]string{{"who", "what", "p50 µs", "p90", "p99", "max", "added p50", "samples"}}
	if r.Machine.Emulated() {
		lines[0][2] = "p50 multiple"
	}
	rows := measuredRows(r.Report)
	for i := range r.Scenarios {
		lines = append(lines, systemRow(&r.Scenarios[i], rows, r.Machine.Emulated()))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	for _, why := range r.Verdict.Noisy {
		fmt.Fprintf(&b, "noisy: %s\n", why)
	}
	for i := range r.Verdict.Bars {
		fmt.Fprintln(&b, r.Verdict.Bars[i].String())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// systemRow has microseconds, or multiples of the baseline where there are no times.
func systemRow(s *ScenarioReport, rows map[string]*ScenarioReport, emulated bool) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	figure := figure
	if emulated {
		if figure = multiplesOf(s, rows); figure == nil {
			return append(l, "measured, but "+s.Baseline+" was not")
		}
	}
	added := "-"
	if s.AddedP50NS != nil {
		added = figure(*s.AddedP50NS)
	}
	m := s.Median
	return append(l, figure(m.P50), figure(m.P90), figure(m.P99), figure(s.Merged.Max), added, strconv.Itoa(s.Samples))
}

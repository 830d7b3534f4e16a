// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// RulesVerdict is what a run says about the bars of the rule engine.
type RulesVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	Bars  []Bar    `json:"bars"`
	// Factors are how many times the p50 of ours goes into that of an opponent.
	Factors []Factor `json:"factors,omitempty"`
}

// Bar is one bound and how it came out.
type Bar struct {
	Name    string   `json:"name"`
	Limit   float64  `json:"limit"` // at most; or at least
	Least   bool     `json:"at_least,omitempty"`
	Unit    string   `json:"unit"`
	Value   *float64 `json:"value,omitempty"` // nil: it was not measured
	Outcome string   `json:"outcome"`
	Why     string   `json:"why,omitempty"` // when it cannot be told
}

// Factor compares two rows.
type Factor struct {
	Ours   string  `json:"ours"`
	Theirs string  `json:"theirs"`
	Factor float64 `json:"factor"`
}

// nature is how a disturbance of the machine changes what a bar is about.
type nature int

const (
	counted nature = iota // not at all: a number of bytes or events
	failing               // makes it worse: a number of failure verdicts; what is met all the same is met
	timed                 // makes it worse, and so do failures; what is met all the same is met
	ratio                 // either way
)

// barOf is a bar to be judged: a value that is made of rows.
type barOf struct {
	name, unit string
	limit      float64
	least      bool // it has to be the limit or more
	nature     nature
	answered   bool      // the value is of answers alone, whatever else failed
	opponent   Mechanism // each of its variants must have been tried, as the best one counts; "" for none
	rows       []string  // all must have been measured
	value      func(map[string]*ScenarioReport) float64
}

func ruleBars() []barOf {
	n := len(missSizes)
	smallest, largest := missSizes[0], missSizes[n-1]
	cold := missID(coldMatch, largest)
	misses := []string{cold}
	for _, size := range missSizes {
		misses = append(misses, missID(noneMatches, size), missID(oneMatches, size))
	}
	whens := []string{whenTextsID, whenPatternsID}
	growth := func(asks askKind) barOf {
		from, to := missID(asks, smallest), missID(asks, largest)
		return barOf{name: fmt.Sprintf("a miss where %s, p50, %s : %s", asks, many(largest), many(smallest)), limit: 1.5, nature: ratio, rows: []string{from, to},
			value: func(rows map[string]*ScenarioReport) float64 { return p50(rows[to]) / max(p50(rows[from]), 1) }}
	}
	bar := func(name, unit string, limit float64, n nature, ids []string, of func(*ScenarioReport) float64) barOf {
		return barOf{name: name, unit: unit, limit: limit, nature: n, rows: ids, value: worst(ids, of)}
	}
	return []barOf{
		bar("a decision on a cache miss, p50, worst row", "ns", 2000, timed, misses, p50),
		growth(noneMatches),
		growth(oneMatches),
		bar("allocations of a decision", "", 0, counted, slices.Concat(misses, whens), whole(FigureAllocs)),
		bar("a decision on a cache hit, p50", "ns", 100, timed, []string{hitID}, p50),
		bar("a when: clause with its rule, p50", "ns", 400, timed, whens, p50),
		bar("memory for each of "+many(largest), "B", 256, counted, []string{cold}, figureOf(FigureBytes)),
		bar("a push, p50", "ns", 1e9, timed, []string{PushID}, p50),
		bar("verdicts during a push, p99", "ns", 50_000, timed, []string{PushVerdictsID}, p99),
		bar("verdicts of the old rules after a push", "", 0, counted, []string{PushID, PushVerdictsID}, figureOf(FigureStale)),
		bar("decisions that are not the expected ones", "", 0, counted, slices.Concat(misses, whens),
			func(s *ScenarioReport) float64 { return float64(s.Failed) }),
	}
}

func p50(s *ScenarioReport) float64 { return float64(s.Median.P50) }

func figureOf(name string) func(*ScenarioReport) float64 {
	return func(s *ScenarioReport) float64 { return s.Figures[name] }
}

// whole cuts off what the runtime allocates now and then beside thousands of decisions.
func whole(name string) func(*ScenarioReport) float64 {
	return func(s *ScenarioReport) float64 { return math.Floor(s.Figures[name]) }
}

// failures is a bar of no failure verdict at all: one that comes at once makes percentiles look good.
// A busy machine can lead to some.
func failures(name string, ids []string) barOf {
	return barOf{name: name, nature: failing, rows: ids, value: worst(ids, func(s *ScenarioReport) float64 { return float64(s.Failed) })}
}

// writeBars writes why the machine was too noisy to judge, and a line for each bar.
func writeBars(b *strings.Builder, noisy []string, bars []Bar) {
	for _, why := range noisy {
		fmt.Fprintf(b, "noisy: %s\n", why)
	}
	for i := range bars {
		fmt.Fprintln(b, bars[i].String())
	}
}

// worst is the largest value of some rows.
func worst(ids []string, of func(*ScenarioReport) float64) func(map[string]*ScenarioReport) float64 {
	return func(rows map[string]*ScenarioReport) float64 {
		v := 0.0
		for _, id := range ids {
			v = max(v, of(rows[id]))
		}
		return v
	}
}

// judgeRules compares the rows of a finished run with the bars.
func judgeRules(r *Report) RulesVerdict {
	v := RulesVerdict{Noisy: noisy(r.Machine)}
	v.Bars = judgeBars(r, ruleBars(), v.Noisy)
	rows := measuredRows(r)
	for _, f := range []Factor{
		{Ours: missID(oneMatches, 10), Theirs: walkID(10)}, {Ours: missID(oneMatches, 1000), Theirs: walkID(1000)},
		{Ours: missID(oneMatches, 100_000), Theirs: walkID(100_000)},
		{Ours: missID(oneMatches, OPARules), Theirs: OPAIndexedID}, {Ours: missID(oneMatches, OPARules), Theirs: OPAWalkID},
	} {
		ours, theirs := rows[f.Ours], rows[f.Theirs]
		if ours != nil && theirs != nil && ours.Doubt()+theirs.Doubt() == "" && ours.Median.P50 > 0 {
			f.Factor = p50(theirs) / p50(ours)
			v.Factors = append(v.Factors, f)
		}
	}
	return v
}

func (b *barOf) judge(r *Report, rows map[string]*ScenarioReport, noisy []string) Bar {
	out := Bar{Name: b.name, Limit: b.limit, Least: b.least, Unit: b.unit, Outcome: CannotTell}
	var missing []string
	for _, id := range b.rows {
		if rows[id] == nil {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		out.Why = "no figure of " + strings.Join(missing, ", ")
		return out
	}
	value := b.value(rows)
	out.Value = &value
	met := value <= b.limit
	if b.least {
		met = value >= b.limit
	}
	if len(noisy) > 0 && (b.nature == ratio || b.nature != counted && !met) {
		out.Why = "noisy machine"
		return out
	}
	if out.Why = b.doubt(r, rows); out.Why != "" {
		return out
	}
	out.Outcome = metIf(met)
	return out
}

// doubt says why the rows do not bear a judgement, "" if they do.
func (b *barOf) doubt(r *Report, rows map[string]*ScenarioReport) string {
	if b.nature == timed && r.Machine.Emulated() {
		return "emulated, " + r.Machine.Times()
	}
	for _, id := range b.rows {
		why := rows[id].Empty()
		if b.nature >= timed && !b.answered {
			why = rows[id].Doubt()
		}
		if why != "" {
			return why
		}
	}
	return untried(r, b.opponent)
}

// String is the bar as a line of the report.
func (b *Bar) String() string {
	value := "not measured"
	if b.Value != nil {
		v := *b.Value
		if b.Least && b.Unit == "" {
			v = math.Floor(v*100) / 100 // as in truncated
		}
		value = quantity(v, b.Unit)
	}
	sign := "≤"
	if b.Least {
		sign = "≥"
	}
	s := fmt.Sprintf("%s: %s; %s %s bar: %s", b.Name, value, sign, quantity(b.Limit, b.Unit), b.Outcome)
	if b.Why != "" {
		s += ": " + b.Why
	}
	return s
}

// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"fmt"
	"math"
	"path"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

// Outcome is what became of a claim.
type Outcome string

// The outcomes.
const (
	Holds       Outcome = "holds"
	DoesNotHold Outcome = "does not hold"
	CannotTell  Outcome = "cannot tell"
)

// Source is a report with its name.
type Source struct {
	Name string
	*bench.Saved
}

// Finding is what the reports say of a claim.
type Finding struct {
	Claim   *Claim
	Outcome Outcome
	Found   string // the figure and its bound, "" when there is none
	From    string // the report that it rests on, "" for none
	Why     string // when it cannot be told
}

// Verify looks each claim up in every report of its command. One report in which it does not hold decides;
// it holds if it does in one and in none not.
func Verify(f *File, reports []Source) []Finding {
	out := make([]Finding, 0, len(f.Claims))
	for i := range f.Claims {
		c := &f.Claims[i]
		best := Finding{Claim: c, Outcome: CannotTell, Why: "no report of arbiter-bench " + c.Run}
		rank := map[Outcome]int{CannotTell: 0, Holds: 1, DoesNotHold: 2}
		for _, s := range reports {
			if s.Kind != c.Run {
				continue
			}
			found := c.verify(s)
			if best.From == "" || rank[found.Outcome] > rank[best.Outcome] {
				best = found
			}
		}
		out = append(out, best)
	}
	return out
}

// verify looks the claim up in one report.
func (c *Claim) verify(s Source) Finding {
	out := Finding{Claim: c, Outcome: CannotTell, From: s.Name}
	value, why := c.Figure.in(s.Saved)
	if why == "" && c.Over != nil {
		var by float64
		if by, why = c.Over.in(s.Saved); why == "" && by <= 0 {
			why = "it would be divided by nothing"
		}
		value /= by
	}
	if why == "" && c.Less != nil {
		var less float64
		less, why = c.Less.in(s.Saved)
		value -= less
	}
	if why != "" {
		out.Why = why
		return out
	}
	if c.isTime() && s.Machine.Emulated() {
		out.Why = "emulated, " + s.Machine.Times()
		return out
	}
	out.Found = c.text(value)
	met := (c.AtMost == nil || value <= c.AtMost.Value) && (c.AtLeast == nil || value >= c.AtLeast.Value)
	if noisy := s.Noisy(); len(noisy) > 0 && !c.standsNoise(met) {
		out.Why = "noisy machine, " + strings.Join(noisy, ", ")
		return out
	}
	out.Outcome = DoesNotHold
	if met {
		out.Outcome = Holds
	}
	return out
}

// standsNoise reports whether a disturbance of the machine cannot have led to this. It makes a time longer,
// so that an upper bound that is met all the same is met; it makes a ratio or a difference of times anything;
// it makes no bytes or events.
func (c *Claim) standsNoise(met bool) bool {
	for _, o := range c.operands() {
		if o.isTime() {
			return len(c.operands()) == 1 && met && c.AtLeast == nil
		}
	}
	return true
}

// in returns the operand's figure in a report, or why there is none.
func (o *Operand) in(s *bench.Saved) (value float64, why string) {
	if s.Daemon != nil {
		return daemonFigures[o.Of](s.Daemon), ""
	}
	found := false
	for _, pattern := range o.rows() {
		v, missing := o.among(s, pattern)
		if missing != "" {
			return 0, missing
		}
		if !found || len(o.Lowest) > 0 && v < value || len(o.Highest) > 0 && v > value {
			value, found = v, true
		}
	}
	return value, ""
}

// among returns the operand's figure of the rows with an ID like the pattern. Of several, those that the machine
// cannot have do not count; without one that was left out, or of no use, the lowest and the highest are not known.
func (o *Operand) among(s *bench.Saved, pattern string) (value float64, why string) {
	why = "the report has no row " + pattern
	for _, id := range lacking(s, pattern) {
		if id != pattern {
			return 0, why + " that is " + id
		}
	}
	found := false
	for i := range s.Run.Scenarios {
		row := &s.Run.Scenarios[i]
		if !Matches(pattern, row.ID) {
			continue
		}
		v, missing := o.of(row)
		switch {
		case missing != "" && row.Status != bench.Unavailable:
			return 0, missing
		case missing != "" && !found:
			why = missing
		case missing == "" && (!found || len(o.Lowest) > 0 && v < value || len(o.Highest) > 0 && v > value):
			value, why, found = v, "", true
		}
	}
	return value, why
}

// lacking returns the rows of the command with an ID like the pattern that a report does not have.
func lacking(s *bench.Saved, pattern string) []string {
	var out []string
	for _, sc := range scenarios[s.Kind] {
		if id := sc.Describe().ID; Matches(pattern, id) && s.Row(id) == nil {
			out = append(out, id)
		}
	}
	return out
}

// scenarios are those of the commands of which several rows are compared.
var scenarios = map[string][]bench.Scenario{bench.KindBridge: bench.Bridge(), bench.KindRules: bench.Rules(), bench.KindBoot: bench.Boot(), bench.KindLoad: bench.Load()}

// of returns the operand's statistic of a row, or why there is none.
func (o *Operand) of(row *bench.ScenarioReport) (value float64, why string) {
	if row.Status != bench.Measured {
		return 0, fmt.Sprintf("%s is %s: %s", row.ID, strings.ReplaceAll(string(row.Status), "_", " "), row.Reason)
	}
	why = row.Empty()
	if o.isTime() {
		why = row.Doubt()
	}
	if why != "" {
		return 0, why
	}
	if of := times[o.Of]; of != nil {
		if why := row.Overrun(); why != "" {
			return 0, row.ID + " " + why
		}
		return float64(of(row)), ""
	}
	if o.Of == "failed" {
		return float64(row.Failed), ""
	}
	v, ok := row.Figures[o.Of]
	if !ok {
		return 0, fmt.Sprintf("%s has no figure %s", row.ID, o.Of)
	}
	return v, ""
}

// Matches reports whether a row's ID is one that the file names: word for word, or by a pattern such as
// fanotify-*.
func Matches(pattern, id string) bool {
	ok, err := path.Match(pattern, id)
	return ok && err == nil
}

// text is the figure with its bound.
func (c *Claim) text(value float64) string {
	show := func(v float64) string {
		if c.isTime() {
			if v < 0 {
				return "-" + bench.Span(int64(-v))
			}
			return bench.Span(int64(v))
		}
		if v >= 1e6 || v == math.Trunc(v) {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return strconv.FormatFloat(v, 'f', 3, 64)
	}
	out := show(value)
	if c.AtMost != nil {
		out += ", at most " + show(c.AtMost.Value)
	}
	if c.AtLeast != nil {
		out += ", at least " + show(c.AtLeast.Value)
	}
	return out
}

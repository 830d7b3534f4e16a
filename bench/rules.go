// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"io"
)

const (
	// PushID is the row of a push, which package rulepush has.
	PushID = "push"
	// PushVerdictsID is the row of the verdicts meanwhile, of the same package.
	PushVerdictsID = "push-verdicts"
	// FigureStale is the name of how many verdicts were of rules from before a push that
	// had returned.
	FigureStale = "stale_verdicts"
)

// missSizes are the sizes of the rule sets, the smallest first.
var missSizes = [...]int{10, 1000, 100_000, 1_000_000}

// walkSizes are those of the lists. A list of a million says what one of 100,000 says.
var walkSizes = [...]int{10, 1000, 100_000}

// Rules returns the scenarios of `arbiter-bench rules` that this package has, in the
// order of their rounds.
func Rules() []Scenario {
	list := []Scenario{hitScenario{}}
	for _, asks := range []askKind{noneMatches, oneMatches} {
		for _, n := range missSizes {
			list = append(list, missScenario{n, asks})
		}
	}
	list = append(list, missScenario{missSizes[len(missSizes)-1], coldMatch})
	for _, n := range walkSizes {
		list = append(list, walkScenario{n})
	}
	return append(list, whenScenarios()...)
}

// RulesReport is one run of the comparison of rule engines.
type RulesReport struct {
	*Report
	Verdict RulesVerdict `json:"verdict"`
}

// RunRules is Run, judged by the bars of the rule engine.
func RunRules(ctx context.Context, o Options) (*RulesReport, error) {
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	return &RulesReport{r, judgeRules(r)}, err
}

// WriteJSON writes the report, indented, with a final newline.
func (r *RulesReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

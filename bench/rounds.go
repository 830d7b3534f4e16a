// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"slices"
	"strconv"
)

// roundsP50 returns the p50 of the rounds, ascending.
func roundsP50(s *ScenarioReport) []int64 {
	var all []int64
	for _, r := range s.Rounds {
		all = append(all, r.P50)
	}
	slices.Sort(all)
	return all
}

// middleP50 returns the lowest and the highest p50 of the middle half of the rounds.
func middleP50(s *ScenarioReport) (least, most int64) {
	all := roundsP50(s)
	return all[len(all)/4], all[len(all)-1-len(all)/4]
}

// multiplesOf returns what writes a duration as a multiple of the p50 of the row's baseline,
// which may be the row itself; nil where that was not measured.
func multiplesOf(s *ScenarioReport, rows map[string]*ScenarioReport) func(ns int64) string {
	base := s
	if s.Baseline != "" {
		base = rows[s.Baseline]
	}
	if base == nil {
		return nil
	}
	return func(ns int64) string {
		return strconv.FormatFloat(float64(ns)/float64(max(base.Median.P50, 1)), 'f', 2, 64)
	}
}

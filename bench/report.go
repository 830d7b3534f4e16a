// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// SchemaVersion is the version of the JSON report. A field that is added does not
// change it, one that changes its meaning or goes does.
const SchemaVersion = 1

const histogramEncoding = "hdrhistogram-v2-compressed-base64"

// Report is one run of the comparison.
type Report struct {
	SchemaVersion int              `json:"schema_version"`
	Kind          string           `json:"kind,omitempty"` // Options.Kind
	Started       time.Time        `json:"started"`
	DurationNS    int64            `json:"duration_ns"`
	Options       ReportOptions    `json:"options"`
	Machine       Machine          `json:"machine"`
	Scenarios     []ScenarioReport `json:"scenarios"`
	Verdict       Verdict          `json:"verdict"`
}

// Common returns what the reports of all commands have, of one that embeds it.
func (r *Report) Common() *Report { return r }

// ReportOptions are the options that the run had.
type ReportOptions struct {
	Rounds        int   `json:"rounds"`
	Samples       int   `json:"samples"` // asked for, per round and scenario
	Warmup        int   `json:"warmup"`  // asks before them, not recorded
	RoundBudgetNS int64 `json:"round_budget_ns"`
	CPUs          []int `json:"cpus"` // requester, other
}

// Status says what a row is.
type Status string

// The statuses of a row.
const (
	Measured      Status = "measured"
	NotApplicable Status = "not_applicable" // it ran, and not one ask was answered
	Unavailable   Status = "unavailable"    // this machine cannot
	Broken        Status = "broken"         // it went wrong on the way
)

// ScenarioReport is one row. The figures are nil unless Status is Measured or
// NotApplicable; with the latter they are the time to the failure verdict.
type ScenarioReport struct {
	ID        string    `json:"id"`
	Mechanism Mechanism `json:"mechanism"`
	Responder string    `json:"responder"`
	Status    Status    `json:"status"`
	Reason    string    `json:"reason,omitempty"`
	Samples   int       `json:"samples"`
	Failed    int       `json:"failed"` // asks with a failure verdict, their durations are among the samples
	// EmptyRounds are those whose budget went before they had a sample.
	EmptyRounds int `json:"empty_rounds,omitempty"`
	// Median has, for each percentile, the median over the rounds; Merged is of
	// all samples together.
	Median *Percentiles `json:"median,omitempty"`
	Merged *Percentiles `json:"merged,omitempty"`
	// AddedP50NS is Median.P50 less that of the baseline; nil without one. A
	// mechanism that times the asking alone adds all of it.
	Baseline   string `json:"baseline,omitempty"`
	AddedP50NS *int64 `json:"added_p50_ns,omitempty"`
	// Figures are what the scenario counted besides, the largest of all rounds.
	Figures   map[string]float64 `json:"figures,omitempty"`
	Rounds    []RoundReport      `json:"rounds,omitempty"`
	Histogram *HistogramReport   `json:"histogram,omitempty"`
	// Intervals are the histograms of the rounds, for WriteLog. They are there for Options.Done alone.
	Intervals []Interval `json:"-"`
}

// mostFailed is of how many asks one may fail in a row whose times are judged: what it took to fail is among them.
const mostFailed = 1000

// Empty says of a row that some rounds are missing in its figures, which may be those that took longest; it
// returns "" for any other row.
func (s *ScenarioReport) Empty() string {
	if s.EmptyRounds == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d rounds of %s had no sample within their budget", s.EmptyRounds, s.EmptyRounds+len(s.Rounds), s.ID)
}

// Doubt says why the times of a measured row are not judged, "" where they are.
func (s *ScenarioReport) Doubt() string {
	if s.Failed*mostFailed > s.Samples {
		return fmt.Sprintf("%d of %d asks of %s failed, one of %s may", s.Failed, s.Samples, s.ID, thousands(mostFailed))
	}
	return s.Empty()
}

// RoundReport is one round of one scenario.
type RoundReport struct {
	Samples int `json:"samples"`
	Failed  int `json:"failed"`
	Percentiles
}

// HistogramReport is the merged histogram, for tools.
type HistogramReport struct {
	Encoding  string `json:"encoding"`
	LowestNS  int64  `json:"lowest_ns"`
	HighestNS int64  `json:"highest_ns"`
	Digits    int    `json:"significant_digits"`
	Data      string `json:"data"`
}

// addBaselines fills AddedP50NS in.
func (r *Report) addBaselines() {
	p50 := map[string]int64{}
	for _, s := range r.Scenarios {
		if s.Status == Measured {
			p50[s.ID] = s.Median.P50
		}
	}
	for i := range r.Scenarios {
		s := &r.Scenarios[i]
		if s.Status != Measured || s.Mechanism == Baseline {
			continue
		}
		base, ok := p50[s.Baseline]
		if s.Baseline == "" || ok {
			added := s.Median.P50 - base
			s.AddedP50NS = &added
		}
	}
}

// WriteJSON writes the report, indented, with a final newline.
func (r *Report) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteJSON writes the report, indented, with a final newline.
func (r *DaemonReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, r any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

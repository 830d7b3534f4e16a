// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The kinds of reports that somebody asks for by name: the commands that wrote them. Any other command's
// is read as well, with what all have in common.
const (
	KindBridge  = "bridge"
	KindLoad    = "load"
	KindBoot    = "boot"
	KindWork    = "work"
	KindRungs   = "rungs"
	KindRules   = "rules"
	KindRuntime = "runtime"
	KindDaemon  = "daemon"
)

// maxReport bounds what ReadReport takes in: a run of all scenarios has some 100 kB.
const maxReport = 256 << 20

// ErrNotAReport is wrapped by the error of ReadReport when the text is not a report, or not a whole one.
var ErrNotAReport = errors.New("not a report of arbiter-bench")

// Saved is a report that was read back, of whatever command.
type Saved struct {
	Kind    string // the command, "" when the report does not say
	Machine Machine
	Run     *Report  // nil for a daemon; its Verdict is of bridge alone
	Bars    []Bar    // those that the verdict has
	Factors []Factor // of p50
	// P99Factors are those under load.
	P99Factors []Factor
	Daemon     *DaemonReport // nil for all else
}

// Noisy returns why the machine was too noisy for a verdict, nil if it was quiet. A daemon is judged
// whatever the load was: its CPU time is its own.
func (s *Saved) Noisy() []string {
	if s.Kind == KindDaemon {
		return nil
	}
	return noisy(s.Machine)
}

// Row returns the scenario with that ID, nil when the report has none.
func (s *Saved) Row(id string) *ScenarioReport {
	if s.Run == nil {
		return nil
	}
	i := slices.IndexFunc(s.Run.Scenarios, func(r ScenarioReport) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &s.Run.Scenarios[i]
}

// ReadReport reads what one of the WriteJSON wrote. Fields that it does not know are skipped, so that a
// report of a later version is read as long as its schema version is the same. The error wraps
// ErrNotAReport, or is that of r.
func ReadReport(r io.Reader) (*Saved, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxReport+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading a report: %w", err)
	case len(text) > maxReport:
		return nil, notAReport("it is larger than %d MiB", maxReport>>20)
	case len(bytes.TrimSpace(text)) == 0:
		return nil, notAReport("it is empty")
	}
	var head struct {
		Version *int            `json:"schema_version"`
		Kind    string          `json:"kind"`
		Verdict json.RawMessage `json:"verdict"`
		Usage   json.RawMessage `json:"usage"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) && syntax.Offset >= int64(len(bytes.TrimSpace(text))) {
			return nil, notAReport("it ends in the middle: %w", err)
		}
		return nil, notAReport("%w", err)
	}
	switch {
	case head.Version == nil:
		return nil, notAReport("it has no schema_version")
	case *head.Version != SchemaVersion:
		return nil, notAReport("it has schema version %d, this program reads %d: use the arbiter-bench that wrote it, or measure again", *head.Version, SchemaVersion)
	case head.Usage != nil:
		d := new(DaemonReport)
		if err := json.Unmarshal(text, d); err != nil {
			return nil, notAReport("%w", err)
		}
		return &Saved{Kind: KindDaemon, Machine: d.Machine, Daemon: d}, nil
	case head.Verdict == nil:
		return nil, notAReport("it has neither a verdict nor a daemon's usage")
	}
	return readRun(text, head.Kind, head.Verdict)
}

// readRun reads a report with scenarios.
func readRun(text []byte, kind string, verdict json.RawMessage) (*Saved, error) {
	var v struct {
		Bars      []Bar    `json:"bars"`
		Factors   []Factor `json:"factors"`
		P99       []Factor `json:"p99_factors"`
		FactorBar string   `json:"factor_bar"`
	}
	if err := json.Unmarshal(verdict, &v); err != nil {
		return nil, notAReport("its verdict: %w", err)
	}
	s := &Saved{Kind: kind, Run: new(Report), Bars: v.Bars, Factors: v.Factors, P99Factors: v.P99}
	if err := json.Unmarshal(text, s.Run); err != nil {
		return nil, notAReport("%w", err)
	}
	if s.Kind == "" { // written before reports said so
		s.Kind = kindOf(s.Run, v.FactorBar != "")
	}
	s.Machine = s.Run.Machine
	seen := map[string]bool{}
	for i := range s.Run.Scenarios {
		row := &s.Run.Scenarios[i]
		if row.ID == "" || seen[row.ID] {
			return nil, notAReport("scenario %d has the id %q, which must be there and its own", i+1, row.ID)
		}
		seen[row.ID] = true
		if (row.Status == Measured || row.Status == NotApplicable) && (row.Median == nil || row.Merged == nil) {
			return nil, notAReport("scenario %s is %s and has no figures", row.ID, row.Status)
		}
	}
	return s, nil
}

// kindOf tells the first two kinds apart.
func kindOf(r *Report, bridges bool) string {
	isRules := func(s ScenarioReport) bool { return s.Mechanism == RuleEngine || s.Mechanism == ListWalk }
	switch {
	case bridges:
		return KindBridge
	case slices.ContainsFunc(r.Scenarios, isRules):
		return KindRules
	}
	return ""
}

func notAReport(format string, args ...any) error {
	return fmt.Errorf("reading a report: %w: %w", ErrNotAReport, fmt.Errorf(format, args...))
}

// Texts returns what was measured and its bound, for people.
func (b *Bar) Texts() (value, bound string) {
	bound = "at most " + quantity(b.Limit, b.Unit)
	if b.Least {
		bound = "at least " + quantity(b.Limit, b.Unit)
	}
	if b.Value == nil {
		return "not measured", bound
	}
	v := *b.Value
	if b.Least && b.Unit == "" {
		v = math.Floor(v*100) / 100 // what was missed by a hair must not look met
	}
	return quantity(v, b.Unit), bound
}

// Recorded returns the histogram of all rounds together, nil when the row has none. The error is that of
// a histogram that cannot be decoded.
func (s *ScenarioReport) Recorded() (*hdrhistogram.Histogram, error) {
	if s.Histogram == nil {
		return nil, nil
	}
	if s.Histogram.Encoding != histogramEncoding {
		return nil, fmt.Errorf("decoding the histogram of %s: encoding %q, want %q", s.ID, s.Histogram.Encoding, histogramEncoding)
	}
	h, err := decode(s.Histogram.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.ID, err)
	}
	return h, nil
}

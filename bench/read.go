// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The commands whose reports can be read back, as Saved.Kind names them.
const (
	KindBridge = "bridge"
	KindRules  = "rules"
	KindDaemon = "daemon"
)

// maxReport bounds what ReadReport takes in: a run of all scenarios has some 100 kB.
const maxReport = 256 << 20

// ErrNotAReport is wrapped by the error of ReadReport when the text is not a report, or not a whole one.
var ErrNotAReport = errors.New("not a report of arbiter-bench")

// Saved is a report that was read back. The fields of another kind are nil.
type Saved struct {
	Kind    string
	Machine Machine
	Run     *Report       // of bridge and rules; Run.Verdict is of bridge alone
	Rules   *RulesVerdict // of rules
	Daemon  *DaemonReport
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
	return readRun(text, head.Verdict)
}

// readRun reads a report with scenarios. The verdict says whose it is.
func readRun(text []byte, verdict json.RawMessage) (*Saved, error) {
	s := &Saved{Kind: KindBridge, Run: new(Report)}
	var v struct {
		Bars json.RawMessage `json:"bars"`
	}
	if err := json.Unmarshal(verdict, &v); err != nil {
		return nil, notAReport("its verdict: %w", err)
	}
	var into any = s.Run
	if v.Bars != nil {
		s.Kind, s.Rules = KindRules, new(RulesVerdict)
		r := &RulesReport{Report: s.Run}
		into = r
		defer func() { *s.Rules = r.Verdict }()
	}
	if err := json.Unmarshal(text, into); err != nil {
		return nil, notAReport("%w", err)
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

func notAReport(format string, args ...any) error {
	return fmt.Errorf("reading a report: %w: %w", ErrNotAReport, fmt.Errorf(format, args...))
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

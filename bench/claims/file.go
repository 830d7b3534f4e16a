// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/bench"
)

// File is bench/claims.yaml.
type File struct {
	Version int `yaml:"version"`
	// Documents are where every figure must be of a claim or excluded: paths from the root, with
	// #anchor for one section and what is below it.
	Documents []string    `yaml:"documents"`
	Claims    []Claim     `yaml:"claims"`
	Excluded  []Exclusion `yaml:"excluded"`
}

// Quote is a part of a document, word for word; line breaks count as blanks.
type Quote struct {
	In   string `yaml:"in"`
	Text string `yaml:"text"`
}

// Exclusion is a quote whose figures no run can back, with the reason.
type Exclusion struct {
	Quotes []Quote `yaml:"quotes"`
	Why    string  `yaml:"why"`
}

// Claim is what some sentences say, and the figure that has to back it: Figure, or Figure divided by Over,
// or Figure without Less, of one run.
type Claim struct {
	ID      string   `yaml:"id"`
	Says    string   `yaml:"says"` // in a few words, for the report
	Quotes  []Quote  `yaml:"quotes"`
	Run     string   `yaml:"run"` // the command of arbiter-bench: the kind of the report
	Figure  Operand  `yaml:"figure"`
	Over    *Operand `yaml:"over"`
	Less    *Operand `yaml:"less"`
	AtMost  *Bound   `yaml:"at_most"`
	AtLeast *Bound   `yaml:"at_least"`
	Why     string   `yaml:"why"` // the bound, where it is not the figure that is quoted
}

// Operand is one figure: a statistic of a row, or the lowest or highest of several rows'.
type Operand struct {
	Row     string   `yaml:"row"`
	Lowest  []string `yaml:"lowest"`
	Highest []string `yaml:"highest"`
	Of      string   `yaml:"of"`
}

// Bound is a number, or a time in nanoseconds.
type Bound struct {
	Value float64
	Time  bool
}

// UnmarshalYAML reads 20, 1.5 or 400ns.
func (b *Bound) UnmarshalYAML(n *yaml.Node) error {
	if v, err := strconv.ParseFloat(n.Value, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
		*b = Bound{Value: v}
		return nil
	}
	d, err := time.ParseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %q is neither a number nor a time such as 400ns", n.Line, n.Value)
	}
	*b = Bound{float64(d), true}
	return nil
}

// The statistics of a row that are times, by their names in the file.
var times = map[string]func(*bench.ScenarioReport) int64{
	"p50":   func(s *bench.ScenarioReport) int64 { return s.Median.P50 },
	"p90":   func(s *bench.ScenarioReport) int64 { return s.Median.P90 },
	"p99":   func(s *bench.ScenarioReport) int64 { return s.Median.P99 },
	"p99.9": func(s *bench.ScenarioReport) int64 { return s.Median.P999 },
	"max":   func(s *bench.ScenarioReport) int64 { return s.Merged.Max },
}

// The statistics of a daemon, which has no rows.
var daemonFigures = map[string]func(*bench.DaemonReport) float64{
	"peak_rss_bytes":   func(d *bench.DaemonReport) float64 { return float64(d.Usage.PeakRSSBytes) },
	"idle_cpu_percent": func(d *bench.DaemonReport) float64 { return d.Idle },
}

// ErrBadFile is wrapped by the error of Read when the file is wrong; the error has all that is.
var ErrBadFile = errors.New("the file of claims is wrong")

// Read reads the file and checks it. The error wraps ErrBadFile, or is that of r.
func Read(r io.Reader) (*File, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading the claims: %w", err)
	}
	f := new(File)
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadFile, err)
	}
	if problems := f.check(); len(problems) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrBadFile, strings.Join(problems, "; "))
	}
	return f, nil
}

func (f *File) check() []string {
	var out []string
	if f.Version != 1 {
		out = append(out, fmt.Sprintf("version %d, want 1", f.Version))
	}
	if len(f.Claims) == 0 {
		out = append(out, "no claims")
	}
	seen := map[string]bool{}
	for i := range f.Claims {
		c := &f.Claims[i]
		bad := func(format string, args ...any) {
			out = append(out, fmt.Sprintf("claim %d (%s): ", i+1, c.ID)+fmt.Sprintf(format, args...))
		}
		if c.ID == "" || seen[c.ID] {
			bad("give it an id of its own")
		}
		seen[c.ID] = true
		if c.Says == "" || len(c.Quotes) == 0 {
			bad("write what it says, and the quotes that say so")
		}
		for _, problem := range checkQuotes(c.Quotes) {
			bad("%s", problem)
		}
		c.checkFigures(bad)
	}
	for i, e := range f.Excluded {
		for _, problem := range checkQuotes(e.Quotes) {
			out = append(out, fmt.Sprintf("excluded %d: %s", i+1, problem))
		}
		if len(e.Quotes) == 0 || e.Why == "" {
			out = append(out, fmt.Sprintf("excluded %d: write quotes and why", i+1))
		}
	}
	return out
}

func checkQuotes(list []Quote) []string {
	var out []string
	for _, q := range list {
		if q.In == "" || strings.TrimSpace(q.Text) == "" {
			out = append(out, "a quote needs in and text")
		}
	}
	return out
}

func (c *Claim) checkFigures(bad func(string, ...any)) {
	if c.Run == "" {
		bad("write whose figure it is, run: bridge for example")
		return
	}
	if c.Over != nil && c.Less != nil {
		bad("either over or less")
	}
	if c.AtMost == nil && c.AtLeast == nil {
		bad("write at_most or at_least")
	}
	for _, o := range c.operands() {
		named := 0
		for _, some := range []bool{o.Row != "", len(o.Lowest) > 0, len(o.Highest) > 0} {
			if some {
				named++
			}
		}
		_, isDaemons := daemonFigures[o.Of]
		switch {
		case c.Run == bench.KindDaemon && (named > 0 || !isDaemons):
			bad("a daemon has no rows, and peak_rss_bytes or idle_cpu_percent")
		case c.Run != bench.KindDaemon && named != 1:
			bad("write one of row, lowest and highest")
		case o.Of == "":
			bad("write which statistic, of: p50 for example")
		}
	}
	for _, b := range []*Bound{c.AtMost, c.AtLeast} {
		if b != nil && b.Time != c.isTime() {
			bad("a bound of a time is written as 400ns, any other one as a number")
		}
	}
}

func (c *Claim) operands() []*Operand {
	list := []*Operand{&c.Figure}
	for _, o := range []*Operand{c.Over, c.Less} {
		if o != nil {
			list = append(list, o)
		}
	}
	return list
}

// isTime reports whether the claim bounds nanoseconds.
func (c *Claim) isTime() bool { return c.Over == nil && c.Figure.isTime() }

// isTime reports whether the figure is nanoseconds: of those that a scenario counts besides, the names say so.
func (o *Operand) isTime() bool {
	return times[o.Of] != nil || strings.HasSuffix(o.Of, "_ns") || strings.HasPrefix(o.Of, "ns_")
}

// rows are the rows that the operand looks at.
func (o *Operand) rows() []string {
	if o.Row != "" {
		return []string{o.Row}
	}
	return slices.Concat(o.Lowest, o.Highest)
}

// Rows returns the scenarios that the claims need of a command, each once.
func (f *File) Rows(run string) []string {
	var out []string
	for i := range f.Claims {
		if f.Claims[i].Run != run {
			continue
		}
		for _, o := range f.Claims[i].operands() {
			for _, id := range o.rows() {
				if !slices.Contains(out, id) {
					out = append(out, id)
				}
			}
		}
	}
	return out
}

// SPDX-License-Identifier: Apache-2.0

package report

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/plotter"

	"github.com/arbiterd/arbiter/bench"
)

// axis is a figure of the scenarios that a plot can have on its x axis. Rows that count it are drawn, a report
// without such rows has no such plot.
type axis struct {
	figure string // a name of bench.Outcome.Figures
	name   string // of the plot, in file names
	title  string
	label  string
	// joined is of a figure that is set, and not counted: rows that differ by it alone are a line.
	joined bool
}

var axes = []axis{
	{figureRate, "rate", "Latency by offered load", "asks offered per second", true},
	{"gc_cycles", "gc", "Latency by collections", "garbage collections in a round", false},
}

// Plots returns what the rows of the run can show, the most telling first.
func (r *Run) Plots() []*Plot {
	if r.Run == nil || len(r.rows) == 0 {
		return nil
	}
	var out []*Plot
	add := func(p *Plot) {
		if p != nil && len(p.lines) > 0 {
			p.Name, p.Facts = r.Name+"-"+p.Name, r.origin()
			if len(r.Noisy()) > 0 {
				p.Title += " (noisy run)"
			}
			if r.Machine.Emulated() {
				p.Title += " (emulated: only ratios mean something)"
			}
			out = append(out, p)
		}
	}
	add(r.overview())
	add(r.byRules())
	for _, a := range axes {
		add(r.tails(a))
		for _, k := range r.series(a) {
			add(r.byFigure(a, k))
		}
	}
	for _, m := range r.mechanisms() {
		add(r.mechanism(m))
	}
	return out
}

// origin is what a plot says of where its figures are from.
func (r *Run) origin() string {
	m := &r.Machine
	return fmt.Sprintf("%s, %d CPUs, virtualised: %s, Linux %s, %s; arbiter-bench %s, %d rounds of %d samples",
		m.CPUModel, m.CPUs, m.Virtualised, m.Kernel, r.Run.Started.UTC().Format("2006-01-02"), r.Kind, r.Run.Options.Rounds, r.Run.Options.Samples)
}

// mechanisms returns those with figures, in the order of the rows.
func (r *Run) mechanisms() []bench.Mechanism {
	var out []bench.Mechanism
	for _, w := range r.rows {
		if !slices.Contains(out, w.Mechanism) {
			out = append(out, w.Mechanism)
		}
	}
	return out
}

const tailNote = "Each line is all samples of a scenario, from the fastest to the slowest one; it ends at the largest."

// overview has every row, coloured by its mechanism.
func (r *Run) overview() *Plot {
	p := &Plot{Name: "percentiles", Title: "Latency by percentile", X: "percentile", Y: "latency",
		Note: tailNote + " The variants of a mechanism have one colour; they are told apart below.", percentile: true}
	colour := 0
	for _, m := range r.mechanisms() {
		style := lineStyle(grey)
		if m != bench.Baseline {
			if colour == grey {
				colour++
			}
			style = lineStyle(colour)
			colour++
		}
		first := true
		for _, w := range r.rows {
			if w.Mechanism != m {
				continue
			}
			if xy := curve(w); xy != nil {
				l := line{points: xy, style: style}
				if first {
					l.name, first = string(m), false
				}
				p.lines = append(p.lines, l)
			}
		}
	}
	return p
}

// mechanism has the variants of one mechanism, if it has some.
func (r *Run) mechanism(m bench.Mechanism) *Plot {
	p := &Plot{Name: "percentiles-" + slug(string(m)), Title: "Latency by percentile: " + string(m), X: "percentile", Y: "latency",
		Note: tailNote, percentile: true}
	for _, w := range r.rows {
		if w.Mechanism == m {
			if xy := curve(w); xy != nil {
				p.lines = append(p.lines, line{name: w.label(), points: xy, style: lineStyle(len(p.lines))})
			}
		}
	}
	if len(p.lines) < 2 {
		return nil
	}
	return p
}

// curve is the percentiles of a row: x is 1/(1-q) for the quantile q. nil without a histogram.
func curve(w row) plotter.XYs {
	if w.recorded == nil || w.recorded.TotalCount() == 0 {
		return nil
	}
	var out plotter.XYs
	n := float64(w.recorded.TotalCount())
	for _, b := range w.recorded.CumulativeDistributionWithTicks(10) {
		if q := b.Quantile / 100; q < 1-1/n {
			out = append(out, plotter.XY{X: 1 / (1 - q), Y: max(float64(b.ValueAt), 1)})
		}
	}
	return append(out, plotter.XY{X: max(n, 1.001), Y: max(float64(w.recorded.Max()), 1)})
}

// ruleCount finds how many rules a row is about, in the text that says what it does.
var ruleCount = regexp.MustCompile(`(?:^|, )([\d,]*\d) rules(?:, |$)`)

// byRules has the median decision against the number of rules, a line for each kind of row.
func (r *Run) byRules() *Plot {
	if r.Kind != bench.KindRules {
		return nil
	}
	p := &Plot{Name: "by-number", Title: "A decision by the number of rules", X: "rules", Y: "p50 of a decision", points: true,
		Note: "The median over the rounds of each round's p50. A kind that was measured with one number of rules is a point."}
	for _, w := range r.rows {
		m := ruleCount.FindStringSubmatchIndex(w.Responder)
		if m == nil {
			continue
		}
		count, err := strconv.ParseFloat(strings.ReplaceAll(w.Responder[m[2]:m[3]], ",", ""), 64)
		if err != nil || count < 1 {
			continue
		}
		name := string(w.Mechanism) + ": " + strings.Trim(w.Responder[:m[0]]+", "+w.Responder[m[1]:], ", ")
		i := slices.IndexFunc(p.lines, func(l line) bool { return l.name == name })
		if i < 0 {
			i = len(p.lines)
			p.lines = append(p.lines, line{name: name, style: lineStyle(i)})
		}
		p.lines[i].points = append(p.lines[i].points, plotter.XY{X: count, Y: float64(max(w.Median.P50, 1))})
	}
	for i := range p.lines {
		sortByX(p.lines[i].points)
	}
	return p
}

// series is what rows have in common that differ by a figure.
type series struct {
	mechanism bench.Mechanism
	what      string // the responder, "" for rows that are not joined
}

func (k series) String() string {
	if k.what == "" {
		return string(k.mechanism)
	}
	return string(k.mechanism) + ", " + k.what
}

// of returns the series of a row, false when it does not count the figure.
func (a axis) of(w row) (series, float64, bool) {
	k := series{mechanism: w.Mechanism}
	if a.joined {
		k.what = w.Responder
	}
	x := w.Figures[a.figure]
	return k, x, x > 0
}

// series returns those of an axis, in the order of the rows.
func (r *Run) series(a axis) []series {
	var out []series
	for _, w := range r.rows {
		if k, _, ok := a.of(w); ok && !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	return out
}

// tails has p99 of every series, to compare them.
func (r *Run) tails(a axis) *Plot {
	all := r.series(a)
	if len(all) < 2 {
		return nil
	}
	p := &Plot{Name: a.name, Title: a.title, X: a.label, Y: "p99", points: true, loose: !a.joined, Note: "The median over the rounds of each round's p99."}
	for i, k := range all {
		l := line{name: k.String(), style: lineStyle(i)}
		for _, w := range r.rows {
			if of, x, ok := a.of(w); ok && of == k {
				l.points = append(l.points, plotter.XY{X: x, Y: float64(max(w.Median.P99, 1))})
			}
		}
		sortByX(l.points)
		p.lines = append(p.lines, l)
	}
	return p
}

// byFigure has the percentiles of a series.
func (r *Run) byFigure(a axis, k series) *Plot {
	p := &Plot{Name: a.name + "-" + slug(k.String()), Title: a.title + ": " + k.String(), X: a.label, Y: "latency", points: true, loose: !a.joined,
		Note: "Percentiles are medians over the rounds, max is the largest sample of all."}
	for i, o := range []struct {
		name  string
		value func(row) int64
	}{
		{"p50", func(w row) int64 { return w.Median.P50 }},
		{"p99", func(w row) int64 { return w.Median.P99 }},
		{"p99.9", func(w row) int64 { return w.Median.P999 }},
		{"max", func(w row) int64 { return w.Merged.Max }},
	} {
		l := line{name: o.name, style: lineStyle(i)}
		for _, w := range r.rows {
			if of, x, ok := a.of(w); ok && of == k {
				l.points = append(l.points, plotter.XY{X: x, Y: float64(max(o.value(w), 1))})
			}
		}
		sortByX(l.points)
		p.lines = append(p.lines, l)
	}
	return p
}

func sortByX(xy plotter.XYs) {
	slices.SortStableFunc(xy, func(a, b plotter.XY) int { return cmp.Compare(a.X, b.X) })
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug makes a part of a file name.
func slug(s string) string {
	return strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(s), "-"), "-")
}

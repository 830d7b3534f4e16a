// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/plot/plotter"

	"github.com/arbiterd/arbiter/bench"
)

// axis is a figure of the scenarios that a plot can have on its x axis. Rows that count it are drawn,
// a report without such rows has no such plot.
type axis struct {
	figure string // a name of bench.Outcome.Figures
	name   string // of the plot, in file names
	title  string
	label  string
}

var axes = []axis{
	{bench.FigureRate, "rate", "Latency by offered load", "asks per second"},
	{bench.FigureGOGC, "gc", "Latency by collector setting", "GOGC: heap growth between collections, in per cent"},
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
			out = append(out, p)
		}
	}
	add(r.overview())
	add(r.byRules())
	for _, a := range axes {
		for _, m := range r.mechanisms() {
			add(r.byFigure(a, m))
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
				p.lines = append(p.lines, line{name: w.Responder, points: xy, style: lineStyle(len(p.lines))})
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
	p := &Plot{Name: "rules", Title: "A decision by the number of rules", X: "rules", Y: "p50 of a decision", points: true,
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

// byFigure has the percentiles of a mechanism against a figure that its rows count.
func (r *Run) byFigure(a axis, m bench.Mechanism) *Plot {
	p := &Plot{Name: a.name + "-" + slug(string(m)), Title: a.title + ": " + string(m), X: a.label, Y: "latency", points: true,
		Note: "Percentiles are medians over the rounds, max is the largest sample of all."}
	of := []struct {
		name  string
		value func(row) int64
	}{
		{"p50", func(w row) int64 { return w.Median.P50 }},
		{"p99", func(w row) int64 { return w.Median.P99 }},
		{"p99.9", func(w row) int64 { return w.Median.P999 }},
		{"max", func(w row) int64 { return w.Merged.Max }},
	}
	for i, o := range of {
		l := line{name: o.name, style: lineStyle(i)}
		for _, w := range r.rows {
			if x := w.Figures[a.figure]; w.Mechanism == m && x > 0 {
				l.points = append(l.points, plotter.XY{X: x, Y: float64(max(o.value(w), 1))})
			}
		}
		if len(l.points) == 0 {
			return nil
		}
		sortByX(l.points)
		p.lines = append(p.lines, l)
	}
	return p
}

func sortByX(xy plotter.XYs) {
	slices.SortFunc(xy, func(a, b plotter.XY) int { return int(a.X - b.X) })
}

var notInSlug = regexp.MustCompile(`[^a-z0-9]+`)

// slug makes a part of a file name.
func slug(s string) string {
	return strings.Trim(notInSlug.ReplaceAllString(strings.ToLower(s), "-"), "-")
}

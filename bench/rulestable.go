// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// span prints nanoseconds in the unit in which they have up to four digits.
func span(ns int64) string {
	const digits = 3
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if v := float64(ns) / u.ns; v >= 1 {
			return strconv.FormatFloat(v, 'f', max(digits-len(strconv.Itoa(int(v))), 0), 64) + " " + u.name
		}
	}
	return strconv.FormatInt(ns, 10) + " ns"
}

// Span prints nanoseconds for people, as the tables of rules do: three digits and the unit that fits.
func Span(ns int64) string { return span(ns) }

// quantity prints the value of a bar.
func quantity(v float64, unit string) string {
	switch unit {
	case "ns":
		return span(int64(v))
	case "":
		if v == math.Trunc(v) {
			return strconv.FormatFloat(v, 'f', 0, 64)
		}
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	if unit == "/s" {
		return strconv.FormatFloat(math.Floor(v), 'f', 0, 64) + unit
	}
	return strconv.FormatFloat(v, 'f', 0, 64) + " " + unit
}

// WriteTable writes the report for a terminal: the machine, a row per scenario, the bars
// and the comparison in the last lines.
func (r *RulesReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d samples each, on CPU %d%s\n\n",
		r.Options.Rounds, r.Options.Samples, r.Options.CPUs[0], otherCPU(r.Options.CPUs))
	lines := [][]string{{"engine", "what", "p50", "p90", "p99", "max", "samples", "failed", "allocs"}}
	for i := range r.Scenarios {
		lines = append(lines, rulesRow(&r.Scenarios[i]))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	r.Verdict.write(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

func rulesRow(s *ScenarioReport) []string {
	l := []string{string(s.Mechanism), s.Responder}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	allocs := "-"
	if v, ok := s.Figures[FigureAllocs]; ok {
		allocs = strconv.FormatFloat(v, 'f', 0, 64)
	}
	m := s.Median
	return append(l, span(m.P50), span(m.P90), span(m.P99), span(s.Merged.Max), strconv.Itoa(s.Samples), strconv.Itoa(s.Failed), allocs)
}

func (v *RulesVerdict) write(b *strings.Builder) {
	writeBars(b, v.Noisy, v.Bars)
	for _, f := range v.Factors {
		fmt.Fprintf(b, "%s p50 : %s p50 = 1 : %.1f\n", f.Ours, f.Theirs, truncated(f.Factor))
	}
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Runtime is the mechanism of the rows about the Go runtime.
const Runtime Mechanism = "Go runtime"

// Runtimes returns the scenarios of `arbiter-bench runtime` in the order of their rounds.
func Runtimes() []Scenario {
	return []Scenario{
		stormScenario{storm: calm},
		stormScenario{storm: collection},
		stormScenario{collection, allocating},
		stormScenario{collection, onHeap},
		stormScenario{collection, attached},
		stormScenario{collection, alone},
		stormScenario{collection, together},
		stormScenario{collection, fewProcs},
		stormScenario{collection, ordinary},
		stormScenario{storm: crowd},
		stormScenario{crowd, attached},
		stormScenario{crowd, alone},
		stormScenario{crowd, together},
		stormScenario{storm: garbage},
		stormScenario{garbage, limited},
	}
}

// RuntimeReport is one run of them.
type RuntimeReport struct {
	*Report
	Verdict RuntimeVerdict `json:"verdict"`
}

// RuntimeVerdict is what it says about the bars.
type RuntimeVerdict struct {
	Noisy []string `json:"noisy,omitempty"` // why the machine was too noisy to judge
	Bars  []Bar    `json:"bars"`
}

// stormBarNS is what p99.9 of a hot verdict may be while a storm goes on.
const stormBarNS = 200_000

func runtimeBars() (bars []barOf) {
	var ids []string
	for _, s := range []storm{collection, crowd} {
		id := stormScenario{storm: s}.Describe().ID
		ids = append(ids, id)
		bars = append(bars, barOf{name: "a hot verdict, p99.9, with " + s.what, unit: "ns", limit: stormBarNS, nature: timed, rows: []string{id},
			value: func(rows map[string]*ScenarioReport) float64 { return float64(rows[id].Median.P999) }})
	}
	return append(bars, failures("failure verdicts in these two", ids))
}

// RunRuntime is Run, judged by the bars of the Go runtime.
func RunRuntime(ctx context.Context, o Options) (*RuntimeReport, error) {
	r, err := Run(ctx, o)
	if r == nil {
		return nil, err
	}
	return &RuntimeReport{r, judgeRuntime(r)}, err
}

// judgeRuntime compares the rows of a finished run with the bars.
func judgeRuntime(r *Report) RuntimeVerdict {
	v := RuntimeVerdict{Noisy: noisy(r.Machine)}
	v.Bars = judgeBars(r, runtimeBars(), v.Noisy)
	return v
}

// WriteJSON writes the report, indented, with a final newline.
func (r *RuntimeReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for a terminal: the machine, a row per scenario, the bars.
func (r *RuntimeReport) WriteTable(w io.Writer) error {
	var b strings.Builder
	r.Machine.write(&b)
	fmt.Fprintf(&b, "run        %d rounds in turns, %d samples each, on CPU %d%s\n\n",
		r.Options.Rounds, r.Options.Samples, r.Options.CPUs[0], otherCPU(r.Options.CPUs))
	lines := [][]string{{"meanwhile", "", "p50", "p99", "p99.9", "max", "samples", "failed", "collections", "longest pause", "sched p99"}}
	for i := range r.Scenarios {
		lines = append(lines, runtimeRow(&r.Scenarios[i]))
	}
	writeAligned(&b, lines)
	r.writeEmpty(&b)
	b.WriteString("\n")
	writeBars(&b, r.Verdict.Noisy, r.Verdict.Bars)
	_, err := io.WriteString(w, b.String())
	return err
}

func runtimeRow(s *ScenarioReport) []string {
	what, lacks, _ := strings.Cut(s.Responder, "; ")
	l := []string{what, lacks}
	if s.Status != Measured {
		return append(l, string(s.Status)+": "+s.Reason)
	}
	m := s.Median
	return append(l, span(m.P50), span(m.P99), span(m.P999), span(s.Merged.Max), strconv.Itoa(s.Samples), strconv.Itoa(s.Failed),
		strconv.FormatFloat(s.Figures[FigureCollections], 'f', 0, 64), span(int64(s.Figures[FigurePause])), span(int64(s.Figures[FigureSchedP99])))
}

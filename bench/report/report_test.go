// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"gonum.org/v1/plot/plotter"

	"github.com/arbiterd/arbiter/bench"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got; run with -update to accept):\n%s", name, diff)
	}
}

// scenario is a measured row with samples from its p50 up, a tenth of them ten times as long.
func scenario(t *testing.T, id string, m bench.Mechanism, what string, p50 int64) bench.ScenarioReport {
	t.Helper()
	h := hdrhistogram.New(1, 10_000_000_000, 3)
	for i := range int64(1000) {
		v := p50 + i*p50/10_000
		if i%10 == 9 {
			v *= 10
		}
		if err := h.RecordValue(v); err != nil {
			t.Fatal(err)
		}
	}
	data, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		t.Fatal(err)
	}
	p := bench.Percentiles{P50: p50, P90: p50 * 2, P99: p50 * 10, P999: p50 * 11, Max: p50 * 11}
	return bench.ScenarioReport{ID: id, Mechanism: m, Responder: what, Status: bench.Measured, Samples: 1000, Median: &p, Merged: &p,
		Histogram: &bench.HistogramReport{Encoding: "hdrhistogram-v2-compressed-base64", LowestNS: 1, HighestNS: 1e10, Digits: 3, Data: string(data)}}
}

func machine() bench.Machine {
	before, after, steal := 0.25, 0.9, 0.0
	return bench.Machine{CPUModel: "Example CPU <1>", CPUs: 8, Virtualised: "no", Kernel: "6.12.0", Preemption: "voluntary", Arch: "amd64",
		GOMAXPROCS: 8, GoVersion: "go1.26", LoadBefore: &before, LoadAfter: &after, StealPercent: &steal, ClockReadNS: 21}
}

func saved(kind string, rows ...bench.ScenarioReport) *bench.Saved {
	r := &bench.Report{SchemaVersion: bench.SchemaVersion, Started: time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC), DurationNS: 31e9, Machine: machine(),
		Options: bench.ReportOptions{Rounds: 5, Samples: 200, Warmup: 20, RoundBudgetNS: 2e9, CPUs: []int{2, 3}}, Scenarios: rows}
	return &bench.Saved{Kind: kind, Machine: r.Machine, Run: r}
}

// bridge is a run in which one bar is met and one cannot be told.
func bridge(t *testing.T) *Run {
	t.Helper()
	s := saved(bench.KindBridge,
		scenario(t, "native-other", bench.NativeQueue, "other CPU, verdict cache", 260),
		scenario(t, "native-other-nocache", bench.NativeQueue, "other CPU, no cache | 1000 rules", 310),
		bench.ScenarioReport{ID: "native-same", Mechanism: bench.NativeQueue, Responder: "same CPU", Status: bench.NotApplicable, Reason: "failure verdict after 50.3 µs",
			Samples: 10, Failed: 10, Median: &bench.Percentiles{P50: 50300}, Merged: &bench.Percentiles{P50: 50300}},
		scenario(t, "baseline-open", bench.Baseline, "open, nobody listens", 1100),
		bench.ScenarioReport{ID: "fanotify-same", Mechanism: bench.Fanotify, Responder: "same CPU, blocking read", Status: bench.Unavailable, Reason: "run as root"})
	s.Run.Verdict = bench.Verdict{Native: "native-other", P50Bar: bench.Met, Bar: bench.CannotTell, Why: "no fanotify figure"}
	return newRun(t, "bridge", s)
}

func rules(t *testing.T) *Run {
	t.Helper()
	s := saved(bench.KindRules,
		scenario(t, "none-10", bench.RuleEngine, "miss, 10 rules, none matches", 54),
		scenario(t, "none-1000", bench.RuleEngine, "miss, 1,000 rules, none matches", 82),
		scenario(t, "none-100000", bench.RuleEngine, "miss, 100,000 rules, none matches", 83),
		scenario(t, "walk-1000", bench.ListWalk, "1,000 rules, one matches", 1330),
		scenario(t, "walk-10", bench.ListWalk, "10 rules, one matches", 23),
		scenario(t, "opa-rules", bench.OPA, "prepared query, a Rego rule each, 1,000 rules", 13300),
		scenario(t, "push", bench.RuleEngine, "push of 100000 rules, until all workers use them", 1_200_000_000))
	s.Run.Scenarios[2].Figures = map[string]float64{"bytes_per_rule": 239.722448, "allocs_per_decision": 1.875e-05}
	value := 1.2e9
	s.Factors = []bench.Factor{{Ours: "none-1000", Theirs: "walk-1000", Factor: 16.219}}
	s.Bars = []bench.Bar{
		{Name: "verdicts a second", Limit: 1e6, Least: true, Value: &value, Outcome: bench.Met},
		{Name: "a decision on a cache hit, p50", Limit: 100, Unit: "ns", Outcome: bench.CannotTell, Why: "no figure of hit"},
		{Name: "a push, p50", Limit: 1e9, Unit: "ns", Value: &value, Outcome: bench.Missed}}
	return newRun(t, "rules", s)
}

func newRun(t *testing.T, name string, s *bench.Saved) *Run {
	t.Helper()
	r, err := New(name, s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func daemon() *bench.Saved {
	d := &bench.DaemonReport{SchemaVersion: 1, Machine: machine(), Usage: bench.ProcessUsage{PeakRSSBytes: 32 << 20, Window: 10e9}, Idle: 0.25, RSSBar: bench.Met, IdleBar: bench.Missed}
	return &bench.Saved{Kind: bench.KindDaemon, Machine: d.Machine, Daemon: d}
}

func noisy(r *Run) *Run {
	load := 9.5
	r.Machine.LoadBefore = &load
	return r
}

// TestEmulated: who reads the page of an emulated machine is told that only ratios mean something, wherever there are some.
func TestEmulated(t *testing.T) {
	r := bridge(t)
	r.Machine.CPUModel, r.Machine.Counted = "QEMU TCG CPU version 2.5+", true
	r.Run.Scenarios[0].EmptyRounds = 2
	var page, text bytes.Buffer
	if err := errors.Join(HTML(&page, []*Run{r}), r.Markdown(&text)); err != nil {
		t.Fatal(err)
	}
	f := func(got string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("got a text without %q", w)
			}
		}
	}
	f(page.String(), "Emulated: only ratios mean something.", "<title>Latency by percentile (emulated: only ratios mean something)</title>")
	f(text.String(), "**Emulated, only ratios mean something.**\n", "- missing: 2 of ", "had no sample within their budget")
}

func TestMarkdown(t *testing.T) {
	f := func(r *Run) {
		t.Helper()
		var b bytes.Buffer
		if err := r.Markdown(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, r.Name+".md", b.Bytes())
	}
	f(bridge(t))
	f(noisy(rules(t)))
	f(newRun(t, "daemon", daemon()))
	f(load(t))
}

func TestPlots(t *testing.T) {
	f := func(name string, r *Run, want ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			var got []string
			for _, p := range r.Plots() {
				got = append(got, p.Name)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the plots differ (-want +got):\n%s", diff)
			}
		})
	}
	f("bridge", bridge(t), "bridge-percentiles", "bridge-percentiles-native-queue")
	f("rules", rules(t), "rules-percentiles", "rules-by-number", "rules-percentiles-rules", "rules-percentiles-list-walk")
	f("daemon", newRun(t, "daemon", daemon()))
	f("nothing measured", newRun(t, "x", saved(bench.KindBridge, bench.ScenarioReport{ID: "a", Status: bench.Broken})))

	f("at given rates", load(t), "load-percentiles", "load-rate", "load-rate-native-queue-other-cpu", "load-rate-seccomp-notify-other-cpu", "load-percentiles-native-queue",
		"load-percentiles-seccomp-notify")

	storm := scenario(t, "storm", "Go runtime", "collections", 300)
	storm.Figures = map[string]float64{"gc_cycles": 40}
	calm := scenario(t, "calm", "Go runtime", "calm", 200)
	calm.Figures = map[string]float64{"gc_cycles": 0}
	f("collections", newRun(t, "runtime", saved("runtime", storm, calm)), "runtime-percentiles", "runtime-gc-go-runtime", "runtime-percentiles-go-runtime")
}

// load is two mechanisms at three rates, which are not in order, and one at a rate that it does not keep.
func load(t *testing.T) *Run {
	t.Helper()
	var rows []bench.ScenarioReport
	for i, rate := range []float64{10_000, 100_000, 1000} {
		for j, m := range []bench.Mechanism{bench.NativeQueue, bench.Seccomp} {
			s := scenario(t, fmt.Sprintf("load-%v-%d", rate, j), m, "other CPU", int64(300*(i+1)*(1+9*j)))
			s.Figures = map[string]float64{figureRate: rate, "short_of_offered": 0.0125 * float64(i), "stale_verdicts": 1000 * float64(i)}
			rows = append(rows, s)
		}
	}
	slow := scenario(t, "load-slow", bench.Seccomp, "other CPU", 400_000_000)
	slow.Figures = map[string]float64{figureRate: 1_000_000, "short_of_offered": 0.75}
	s := saved(bench.KindLoad, append(rows, slow)...)
	s.P99Factors = []bench.Factor{{Ours: "load-1000-0", Theirs: "load-1000-1", Factor: 10.06}}
	return newRun(t, "load", s)
}

// TestLines looks at what is drawn.
func TestLines(t *testing.T) {
	var p *Plot
	for _, p = range rules(t).Plots() {
		if p.Name == "rules-by-number" {
			break
		}
	}
	got := map[string][]float64{}
	for _, l := range p.lines {
		for _, xy := range l.points {
			got[l.name] = append(got[l.name], xy.X, xy.Y)
		}
	}
	want := map[string][]float64{
		"rules: miss, none matches":             {10, 54, 1000, 82, 100_000, 83},
		"list walk: one matches":                {10, 23, 1000, 1330},
		"OPA: prepared query, a Rego rule each": {1000, 13300},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the lines differ (-want +got):\n%s", diff)
	}

	got = map[string][]float64{}
	for _, p := range load(t).Plots() {
		if p.Name == "load-rate" {
			for _, l := range p.lines {
				for _, xy := range l.points {
					got[l.name] = append(got[l.name], xy.X, xy.Y)
				}
			}
		}
	}
	want = map[string][]float64{"native queue, other CPU": {1000, 9000, 10_000, 3000, 100_000, 6000}, "seccomp notify, other CPU": {1000, 90_000, 10_000, 30_000, 100_000, 60_000}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the lines of the rates differ (-want +got):\n%s", diff)
	}

	r := bridge(t)
	xy := curve(r.rows[0])
	at := func(x float64) float64 {
		i := slices.IndexFunc(xy, func(p plotter.XY) bool { return p.X >= x })
		return xy[i].Y
	}
	if p50, p99 := at(2), at(100); math.Abs(p50-260) > 30 || p99 < 2600 {
		t.Errorf("got %v at 50 %% and %v at 99 %%, want some 260 and ten times that", p50, p99)
	}
	if last := xy[len(xy)-1]; last.X != 1000 || last.Y < 2800 {
		t.Errorf("got %v as the last point, want the largest of 1000 samples", last)
	}
	if len(r.rows) != 3 {
		t.Errorf("got %d rows to draw, want 3: a failure verdict is no latency", len(r.rows))
	}
}

func TestRender(t *testing.T) {
	for _, p := range slices.Concat(bridge(t).Plots(), rules(t).Plots(), load(t).Plots()) {
		var svg, img bytes.Buffer
		if err := errors.Join(p.SVG(&svg), p.PNG(&img)); err != nil {
			t.Fatal(err)
		}
		if p.Name == "rules-by-number" {
			golden(t, p.Name+".svg", svg.Bytes())
		}
		if d := xml.NewDecoder(&svg); true {
			for {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Fatalf("%s: %v", p.Name, err)
				}
			}
		}
		drawn, err := png.Decode(&img)
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if b := drawn.Bounds(); b.Dx() < 1000 || b.Dy() < 600 {
			t.Errorf("%s: got %v, want twice the points of the screen", p.Name, b)
		}
	}
	if err := bridge(t).Plots()[0].SVG(full{}); err == nil {
		t.Error("a full disk: got no error, want one")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

// TestHTML looks for what has to be in the page, and for what a page without a network must not have.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	runs := []*Run{bridge(t), noisy(rules(t)), newRun(t, "daemon", daemon())}
	if err := HTML(&b, runs); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{
		"Example CPU &lt;1&gt;", "began 2031-05-06 07:08 UTC", "Noisy: do not rely on these figures.", "load 9.50 before the start", "CPUs 2 and 3",
		"The native queue answers within 1.00 µs", "✓ holds", "? cannot tell", "no fanotify figure", "✗ does not hold", "(noisy run)</title>", "8 CPUs, virtualised: no, Linux 6.12.0, 2031-05-06; arbiter-bench rules, 5 rounds of 200 samples", "bytes per rule 239.7", "A push, p50: at most 1.00 s", "Verdicts a second: at least 1000000", "none-1000 p50 : walk-1000 p50 = 1 : 16.2",
		"unavailable: run as root", "not applicable: failure verdict", "0.250 %", "prefers-color-scheme: dark", "<title>Latency by percentile</title>", "stroke:currentColor",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("got a page without %q", want)
		}
	}
	if n := strings.Count(page, "Noisy:"); n != 1 {
		t.Errorf("got %d runs that are noisy, want 1", n)
	}
	if n := strings.Count(page, "<svg "); n != 6 {
		t.Errorf("got %d plots, want 6", n)
	}
	for _, never := range []string{"<script", "<link", "<img", "@import", "url(", "#000000", "<?xml"} {
		if strings.Contains(page, never) {
			t.Errorf("got a page with %q", never)
		}
	}
	for _, m := range regexp.MustCompile(`https?://[^" ]*`).FindAllString(page, -1) {
		if m != "http://www.w3.org/2000/svg" && m != "http://www.w3.org/1999/xlink" {
			t.Errorf("got a page with an address: %s", m)
		}
	}
	if err := HTML(full{}, runs); err == nil {
		t.Error("a full disk: got no error, want one")
	}
}

func TestNewRefuses(t *testing.T) {
	s := saved(bench.KindBridge, scenario(t, "a", bench.Seccomp, "same CPU", 100))
	s.Run.Scenarios[0].Histogram.Data = "HISTF"
	if _, err := New("x", s); err == nil || !strings.Contains(err.Error(), "reading x: a: decoding") {
		t.Errorf("got %v, want the row that is damaged", err)
	}
	s.Run.Scenarios[0].Histogram = nil
	if p := newRun(t, "x", s).Plots(); len(p) != 0 {
		t.Errorf("got %d plots without a histogram, want none", len(p))
	}
}

func TestTicks(t *testing.T) {
	f := func(lo, hi float64, want ...string) {
		t.Helper()
		var got []string
		for _, tick := range timeTicks().Ticks(lo, hi) {
			if tick.Label != "" {
				got = append(got, tick.Label)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v to %v (-want +got):\n%s", lo, hi, diff)
		}
	}
	f(20, 500, "20 ns", "50 ns", "100 ns", "200 ns", "500 ns")
	f(100, 1e6, "100 ns", "1 µs", "10 µs", "100 µs", "1 ms")
	f(5e6, 2e9, "10 ms", "100 ms", "1 s")
	var got []string
	for _, tick := range (percentileTicks{}).Ticks(1, 100_000) {
		got = append(got, tick.Label)
	}
	if diff := cmp.Diff([]string{"0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%"}, got); diff != "" {
		t.Errorf("the percentiles differ (-want +got):\n%s", diff)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d): got %q, want %q", n, got, want)
		}
	}
}

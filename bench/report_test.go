// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func ptr[T any](v T) *T { return &v }

func measured(id string, m Mechanism, responder, baseline string, p Percentiles) ScenarioReport {
	merged := p
	merged.Max += 1000
	return ScenarioReport{ID: id, Mechanism: m, Responder: responder, Baseline: baseline, Status: Measured, Samples: 100000, Median: &p, Merged: &merged}
}

// untriedHere is a row that the machine cannot have.
func untriedHere(id string, m Mechanism) ScenarioReport {
	return ScenarioReport{ID: id, Mechanism: m, Responder: id, Status: Unavailable, Reason: "run as root"}
}

// quietReport is a run on a quiet machine in which the bars are met.
func quietReport() *Report {
	stages := measured(stagesID, NativeQueue, "by stages", "", Percentiles{600, 650, 900, 9000, 90000})
	stages.Figures = map[string]float64{}
	for i, name := range stageNames {
		stages.Figures[FigureStage(name)] = float64(50 + 10*i)
	}
	r := &Report{
		SchemaVersion: SchemaVersion,
		Started:       time.Date(2031, 5, 6, 7, 8, 9, 0, time.UTC),
		DurationNS:    31_000_000_000,
		Options:       ReportOptions{Rounds: 5, Samples: 20000, Warmup: 1000, RoundBudgetNS: 2e9, CPUs: []int{2, 3}},
		Machine: Machine{CPUModel: "Example CPU", CPUs: 8, Virtualised: "no", Kernel: "6.12.0", Preemption: "voluntary", Arch: "amd64",
			GOMAXPROCS: 8, GoVersion: "go1.26", LoadBefore: ptr(0.25), LoadAfter: ptr(0.9), StealPercent: ptr(0.0), OthersPercent: ptr(1.25), ClockReadNS: 21},
		Scenarios: []ScenarioReport{
			measured("native-other", NativeQueue, "other CPU, verdict cache", "", Percentiles{480, 520, 905, 9870, 104000}),
			{ID: "native-same", Mechanism: NativeQueue, Responder: "same CPU", Status: NotApplicable, Reason: "failure verdict after 50.3 µs (p50 of 10000 asks, none was answered)", Samples: 10000, Failed: 10000, Median: &Percentiles{P50: 50300}, Merged: &Percentiles{P50: 50300}},
			measured(openBaselineID, Baseline, "open, nobody listens", "", Percentiles{1400, 1500, 2000, 9990, 9999}),
			measured(getppidBaselineID, Baseline, "getppid, no filter", "", Percentiles{90, 95, 99, 105, 1000000}),
			measured("fanotify-same", Fanotify, "same CPU, blocking read", openBaselineID, Percentiles{11000, 12000, 19000, 52000, 300000}),
			measured("fanotify-other", Fanotify, "other CPU, blocking read", openBaselineID, Percentiles{49000, 60000, 99940, 99960, 1234567}),
			measured("seccomp-same", Seccomp, "same CPU", getppidBaselineID, Percentiles{7000, 7500, 9999, 41000, 200000}),
			{ID: "seccomp-same-sync", Mechanism: Seccomp, Responder: "same CPU, SYNC_WAKE_UP", Baseline: getppidBaselineID, Status: Unavailable, Reason: "asking for SYNC_WAKE_UP: invalid argument; needs Linux 6.6"},
			stages,
			untriedHere("fanotify-same-poll", Fanotify), untriedHere("fanotify-other-poll", Fanotify),
			untriedHere("seccomp-other", Seccomp), untriedHere("seccomp-other-sync", Seccomp), untriedHere("seccomp-other-poll", Seccomp),
		},
	}
	r.addBaselines()
	r.Verdict = judge(r)
	return r
}

func TestTable(t *testing.T) {
	f := func(name string, change func(*Report)) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := quietReport()
			change(r)
			r.Verdict = judge(r)
			var b bytes.Buffer
			if err := r.WriteTable(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, "table_"+name+".txt", b.String())
		})
	}
	f("quiet", func(*Report) {})
	f("noisy", func(r *Report) {
		r.Machine.LoadBefore, r.Machine.StealPercent, r.Machine.OthersPercent = ptr(5.5), ptr(3.25), ptr(7.5)
	})
	f("failed", func(r *Report) {
		r.Scenarios[0].Failed = 500
		r.Scenarios[4].EmptyRounds = 1
	})
	f("missing", func(r *Report) {
		r.Machine.LoadAfter, r.Machine.StealPercent = nil, nil
		r.Options.CPUs = []int{0}
		r.Scenarios[2].EmptyRounds = 2
		for i := range r.Scenarios {
			if s := &r.Scenarios[i]; s.Mechanism == Fanotify || s.ID == "native-other" {
				*s = ScenarioReport{ID: s.ID, Mechanism: s.Mechanism, Responder: s.Responder, Status: Unavailable, Reason: "run as root"}
			}
		}
	})
}

func TestFigure(t *testing.T) {
	for ns, want := range map[int64]string{0: "0.00", 4: "0.00", 5: "0.01", 480: "0.48", 9994: "9.99", 9996: "10.0", 99940: "99.9", 99960: "100", 1234567: "1235"} {
		if got := figure(ns); got != want {
			t.Errorf("figure(%d): got %q, want %q", ns, got, want)
		}
	}
}

// A sample may count larger units than nanoseconds; what is beyond the range is its end.
func TestRecordUnits(t *testing.T) {
	f := func(sample uint32, unit time.Duration, want int64) {
		t.Helper()
		h := newHistogram()
		if err := record(h, []uint32{sample}, unit, 0); err != nil {
			t.Fatal(err)
		}
		if got := h.Max(); got < want || got > want+want/1000+1 {
			t.Errorf("%d of %v: got %d ns, want %d", sample, unit, got, want)
		}
	}
	f(4_294_967_294, 0, 4_294_967_294)
	f(4_294_967_295, 0, highestNS) // cut off: it took that or more
	f(7, time.Nanosecond, 7)
	f(5_100_000, time.Microsecond, 5_100_000_000)
	f(4_294_967_295, time.Microsecond, highestNS)
}

// Of who does not ask while he waits, one sample in a thousand that takes long stands for all that would have
// come meanwhile: of 99.9 ms in which nobody was held and 100 ms in which all were, half of the asks are late.
func TestRecordPace(t *testing.T) {
	samples := slices.Repeat([]uint32{2000}, 1000)
	samples[500] = 100_000_000
	f := func(pace time.Duration, count, p90 int64) {
		t.Helper()
		h := newHistogram()
		if err := record(h, samples, 0, pace); err != nil {
			t.Fatal(err)
		}
		if got := h.ValueAtPercentile(90); h.TotalCount() != count || got < p90 || got > p90+p90/100 {
			t.Errorf("a pace of %v: got %d values, p90 %d ns, want %d and %d", pace, h.TotalCount(), got, count, p90)
		}
	}
	f(0, 1000, 2000)
	f(100*time.Microsecond, 1999, 80_000_000)
}

func TestReportRoundTrip(t *testing.T) {
	want := quietReport()
	h := newHistogram()
	if err := record(h, []uint32{1, 480, 480, 4_294_967_295}, 0, 0); err != nil {
		t.Fatal(err)
	}
	text, err := encode(h)
	if err != nil {
		t.Fatal(err)
	}
	want.Scenarios[0].Histogram = &HistogramReport{histogramEncoding, lowestNS, highestNS, digits, text}
	want.Scenarios[0].Rounds = []RoundReport{{20000, 3, Percentiles{1, 2, 3, 4, 5}}}
	var b bytes.Buffer
	if err := want.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{`"schema_version": 1`, `"p99_9_ns": 4`, `"status": "not_applicable"`, `"steal_percent": 0`} {
		if !strings.Contains(b.String(), key) {
			t.Errorf("got JSON without %s", key)
		}
	}
	got := new(Report)
	if err := json.Unmarshal(b.Bytes(), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the report differs (-want +got):\n%s", diff)
	}
	back, err := decode(got.Scenarios[0].Histogram.Data)
	if err != nil {
		t.Fatal(err)
	}
	if !back.Equals(h) || back.TotalCount() != 4 {
		t.Errorf("got %d values, want the 4 that were encoded", back.TotalCount())
	}
}

func TestHistogram(t *testing.T) {
	h := newHistogram()
	var samples []uint32
	for i := range uint32(1000) {
		samples = append(samples, (i+1)*10)
	}
	if err := record(h, append(samples, 0), 0, 0); err != nil {
		t.Fatalf("recording, a zero among them: %v", err)
	}
	got := percentiles(h)
	want := Percentiles{5000, 9000, 9900, 9990, 10000}
	for _, c := range []struct {
		name      string
		got, want int64
	}{{"p50", got.P50, want.P50}, {"p90", got.P90, want.P90}, {"p99", got.P99, want.P99}, {"p99.9", got.P999, want.P999}, {"max", got.Max, want.Max}} {
		if d := float64(c.got-c.want) / float64(c.want); d < -0.002 || d > 0.002 {
			t.Errorf("%s: got %d, want %d within 0.2 %%", c.name, c.got, c.want)
		}
	}
	if _, err := decode("no histogram"); err == nil {
		t.Error("decoding text: got no error, want one")
	}
}

func TestMedians(t *testing.T) {
	odd := medians([]Percentiles{{P50: 9, Max: 1}, {P50: 1, Max: 5}, {P50: 5, Max: 900}})
	if odd.P50 != 5 || odd.Max != 5 {
		t.Errorf("of three: got %+v, want 5 and 5", odd)
	}
	if even := medians([]Percentiles{{P50: 4}, {P50: 10}}); even.P50 != 7 {
		t.Errorf("of two: got %d, want 7", even.P50)
	}
	if none := medians(nil); none != (Percentiles{}) {
		t.Errorf("of none: got %+v, want zeros", none)
	}
}

func TestJudge(t *testing.T) {
	f := func(name string, change func(*Report), bar, p50Bar, why string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			r := quietReport()
			change(r)
			v := judge(r)
			if v.Bar != bar || v.P50Bar != p50Bar || !strings.Contains(v.Why, why) || why == "" && v.Why != "" {
				t.Errorf("got %q %q %q, want %q %q %q", v.Bar, v.P50Bar, v.Why, bar, p50Bar, why)
			}
		})
	}
	native := func(r *Report) *ScenarioReport { return &r.Scenarios[0] }
	f("met", func(*Report) {}, Met, Met, "")
	f("just met", func(r *Report) { native(r).Median.P50 = 550 }, Met, Met, "")
	f("just missed", func(r *Report) { native(r).Median.P50 = 551 }, Missed, Met, "")
	f("p50 just missed", func(r *Report) { native(r).Median.P50 = 1001 }, Missed, Missed, "")
	f("load at the limit", func(r *Report) { r.Machine.LoadBefore = ptr(4.0) }, Met, Met, "")
	f("load above", func(r *Report) { r.Machine.LoadBefore = ptr(4.01) }, CannotTell, CannotTell, "noisy machine, load 4.01")
	f("load unknown", func(r *Report) { r.Machine.LoadBefore = nil }, CannotTell, CannotTell, "unknown")
	f("stolen", func(r *Report) { r.Machine.StealPercent = ptr(2.1) }, CannotTell, CannotTell, "2.1 %")
	f("steal at the limit", func(r *Report) { r.Machine.StealPercent = ptr(2.0) }, Met, Met, "")
	f("no native", func(r *Report) { native(r).Status = Broken }, CannotTell, CannotTell, "no native queue figure")
	f("no fanotify", func(r *Report) { r.Scenarios[4].Status, r.Scenarios[5].Status = Unavailable, Broken }, CannotTell, Met, "no fanotify figure")
	f("no seccomp", func(r *Report) { r.Scenarios[6].Status = Unavailable }, Met, Met, "")
	f("a variant was left out", func(r *Report) { r.Scenarios[5].ID = "another" }, CannotTell, Met, "the best is not known without fanotify-other")
	f("a variant broke", func(r *Report) { r.Scenarios[5].Status = Broken }, CannotTell, Met, "without fanotify-other")
	f("a variant cannot be had", func(r *Report) { r.Scenarios[5].Status = Unavailable }, Met, Met, "")
	f("stolen from the run", func(r *Report) { r.Machine.RunStealPercent = ptr(2.1) }, CannotTell, CannotTell, "2.1 % of the time of the run's CPUs was stolen")
	f("others on its CPUs", func(r *Report) { r.Machine.RunOthersPercent = ptr(5.1) }, CannotTell, CannotTell, "5.1 % of the time of the run's CPUs went to other processes")
	f("few others on its CPUs", func(r *Report) { r.Machine.RunOthersPercent = ptr(5.0) }, Met, Met, "")
	f("emulated by whoever", func(r *Report) { r.Machine.CPUModel = "QEMU TCG CPU version 2.5+" }, CannotTell, CannotTell, "what else the host that emulates has to do is unknown")
	f("emulated", func(r *Report) {
		r.Machine.CPUModel, r.Machine.Counted = "QEMU TCG CPU version 2.5+", true
	}, Met, CannotTell, "emulated, times are instructions")
	f("emulated, and a variant was left out", func(r *Report) {
		r.Machine.CPUModel, r.Machine.Counted = "QEMU TCG CPU version 2.5+", true
		r.Scenarios[5].ID = "another"
	}, CannotTell, CannotTell, "with each other, the best is not known without fanotify-other")
	f("few failures", func(r *Report) { native(r).Failed = 100 }, Met, Met, "")
	f("failures", func(r *Report) { native(r).Failed = 101 }, CannotTell, CannotTell, "101 of 100000 asks of native-other failed")
	f("failures of an opponent", func(r *Report) { r.Scenarios[4].Failed = 101 }, CannotTell, Met, "fanotify-same failed")
	f("a round is missing", func(r *Report) { native(r).EmptyRounds = 1 }, CannotTell, CannotTell, "1 of 1 rounds of native-other had no sample")

	r := quietReport()
	r.Scenarios = append(r.Scenarios, measured("ptrace-other", Ptrace, "other CPU", getppidBaselineID, Percentiles{P50: 30_000}),
		measured("ptrace-same", Ptrace, "same CPU", getppidBaselineID, Percentiles{P50: 9600}))
	if v := judge(r); v.Ptrace != "ptrace-same" || v.PtraceFactor != 20 {
		t.Errorf("got %q, factor %v, want the best of ptrace and 20", v.Ptrace, v.PtraceFactor)
	}

	v := judge(quietReport())
	if v.Fanotify != "fanotify-same" || v.Seccomp != "seccomp-same" || v.Native != "native-other" {
		t.Errorf("got rows %q %q %q, want the lowest p50 of each", v.Native, v.Fanotify, v.Seccomp)
	}
	if got, want := v.FanotifyFactor, 11000.0/480; got != want {
		t.Errorf("factor: got %v, want %v", got, want)
	}
	if got, want := v.FanotifyAddedFactor, 9600.0/480; got != want {
		t.Errorf("added factor: got %v, want %v", got, want)
	}
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs (-want +got; run with -update to accept):\n%s", name, diff)
	}
}

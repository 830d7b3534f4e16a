// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

func written(t *testing.T, r interface{ WriteJSON(io.Writer) error }) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadReport(t *testing.T) {
	rules := &RulesReport{rulesReport(), judgeRules(rulesReport())}
	f := func(kind, text string) *Saved {
		t.Helper()
		s, err := ReadReport(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if s.Kind != kind || s.Machine.Kernel != "6.12.0" {
			t.Errorf("got %q of a kernel %q, want %q", s.Kind, s.Machine.Kernel, kind)
		}
		return s
	}
	if s := f(KindBridge, written(t, quietReport())); cmp.Diff(quietReport(), s.Run) != "" || s.Row("native-other") == nil || s.Row("none") != nil {
		t.Errorf("got another report of bridge:\n%s", cmp.Diff(quietReport(), s.Run))
	}
	if s := f(KindRules, written(t, rules)); cmp.Diff(rules.Verdict.Bars, s.Bars) != "" || len(s.Factors) == 0 || len(s.Run.Scenarios) != len(rules.Scenarios) {
		t.Errorf("got another report of rules:\n%s", cmp.Diff(rules.Verdict.Bars, s.Bars))
	}
	if s := f(KindDaemon, written(t, judgeDaemon())); cmp.Diff(judgeDaemon(), s.Daemon) != "" || s.Row("native-other") != nil {
		t.Errorf("got another report of a daemon:\n%s", cmp.Diff(judgeDaemon(), s.Daemon))
	}
	f("load", strings.Replace(written(t, quietReport()), "{", `{"kind": "load",`, 1))
	f("", strings.Replace(written(t, quietReport()), `"factor_bar"`, `"other_bar"`, 1))
	f(KindBridge, strings.Replace(written(t, quietReport()), "{", `{"a_later_field": 7,`, 1))
}

func TestReadReportRefuses(t *testing.T) {
	whole := written(t, quietReport())
	f := func(name, text, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			_, err := ReadReport(strings.NewReader(text))
			if !errors.Is(err, ErrNotAReport) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want one that says %q", err, want)
			}
		})
	}
	f("nothing", " \n", "it is empty")
	f("half", whole[:len(whole)/2], "it ends in the middle")
	f("all but the end", strings.TrimRight(whole, "}\n"), "it ends in the middle")
	f("two", whole+whole, "invalid character")
	f("text", "p50 0.26 µs", "invalid character")
	f("an array", "[]", "cannot unmarshal array")
	f("other JSON", `{"a": 1}`, "no schema_version")
	f("a later version", strings.Replace(whole, `"schema_version": 1`, `"schema_version": 2`, 1), "schema version 2, this program reads 1: use the arbiter-bench that wrote it")
	f("a version in words", `{"schema_version": "one"}`, "cannot unmarshal string")
	f("no verdict", `{"schema_version": 1}`, "neither a verdict")
	f("a verdict in words", `{"schema_version": 1, "verdict": "good"}`, "its verdict")
	f("a figure in words", strings.Replace(whole, `"samples": 100000`, `"samples": "many"`, 1), "cannot unmarshal string")
	f("a row twice", strings.Replace(whole, `"fanotify-same"`, `"native-other"`, 1), `the id "native-other"`)
	f("measured without figures", `{"schema_version": 1, "verdict": {}, "scenarios": [{"id": "a", "status": "measured"}]}`, "has no figures")

	fault := errors.New("the disk is gone")
	if _, err := ReadReport(iotest.ErrReader(fault)); !errors.Is(err, fault) || errors.Is(err, ErrNotAReport) {
		t.Errorf("got %v, want the fault alone", err)
	}
}

func TestRecorded(t *testing.T) {
	f := func(name string, h *HistogramReport, count int64, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got, err := (&ScenarioReport{ID: "row", Histogram: h}).Recorded()
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Fatalf("got %v, want %q", err, want)
			}
			if (got == nil) != (count == 0) || got != nil && got.TotalCount() != count {
				t.Errorf("got %v, want %d samples", got, count)
			}
		})
	}
	h := newHistogram()
	if err := record(h, []uint32{1, 2, 3}, 0, 0); err != nil {
		t.Fatal(err)
	}
	text, err := encode(h)
	if err != nil {
		t.Fatal(err)
	}
	f("none", nil, 0, "")
	f("three", &HistogramReport{Encoding: histogramEncoding, Data: text}, 3, "")
	f("another encoding", &HistogramReport{Encoding: "gzip", Data: text}, 0, `row: encoding "gzip"`)
	f("damaged", &HistogramReport{Encoding: histogramEncoding, Data: text[:20]}, 0, "row: decoding")
}

// TestWriteLog reads the log back by HdrHistogram's own reader.
func TestWriteLog(t *testing.T) {
	var r *Report
	o := testOptions(t, "steady", "forbidden")
	fault := errors.New("the disk is full")
	o.Done = func(done *Report) error {
		r = new(Report)
		*r = *done
		r.Scenarios = slices.Clone(done.Scenarios)
		return fault
	}
	after, err := Run(t.Context(), o)
	if !errors.Is(err, fault) || after == nil {
		t.Fatalf("got %v, want the report and the error of Done", err)
	}
	if after.Scenarios[0].Intervals != nil {
		t.Error("got the rounds' histograms after the run, want them dropped")
	}
	f := func(name string, r *Report, row int, want []int64) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			var b bytes.Buffer
			if err := r.WriteLog(&b, &r.Scenarios[row]); err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(b.String(), "#[Histogram log format version 1.3]\n") {
				t.Errorf("got %q, want the version first", b.String())
			}
			in := hdrhistogram.NewHistogramLogReader(&b)
			var got []int64
			end := int64(0)
			for {
				h, err := in.NextIntervalHistogram()
				if err != nil {
					t.Fatal(err)
				}
				if h == nil {
					break
				}
				got = append(got, h.TotalCount())
				if h.Tag() != "" || h.ValueAtPercentile(50) != 1500 || h.StartTimeMs() < end || h.EndTimeMs() < h.StartTimeMs() {
					t.Errorf("got %q, p50 %d, from %d to %d after %d, want no tag and 1500, one after another", h.Tag(), h.ValueAtPercentile(50), h.StartTimeMs(), h.EndTimeMs(), end)
				}
				end = h.EndTimeMs()
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the intervals differ (-want +got):\n%s", diff)
			}
		})
	}
	f("a round each", r, 0, []int64{200, 200})
	f("nothing", r, 1, nil)
	back, err := ReadReport(strings.NewReader(written(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	f("read back", back.Run, 0, []int64{400})
	if err := r.WriteLog(fullDisk{}, &r.Scenarios[0]); err == nil {
		t.Error("a full disk: got no error, want one")
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

// FuzzReadReport reads what may be anything, and everything of it that is read again later.
func FuzzReadReport(f *testing.F) {
	// Short ones: the fuzzer takes its time over each byte of what it finds interesting.
	f.Add([]byte(`{"schema_version": 1, "usage": {}, "machine": {"cpus": 2}}`))
	f.Add([]byte(`{"schema_version": 1, "verdict": {}, "scenarios": [{"id": "a", "status": "measured", "median": {}, "merged": {}}]}`))
	h := newHistogram()
	if err := record(h, []uint32{480, 1000}, 0, 0); err != nil {
		f.Fatal(err)
	}
	data, err := encode(h)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"schema_version": 1, "verdict": {"bars": []}, "scenarios": [{"id": "a", "histogram": {"encoding": "` + histogramEncoding + `", "data": "` + data + `"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ReadReport(bytes.NewReader(text))
		if (s == nil) != (err != nil) {
			t.Fatalf("got %v and %v, want one of them", s, err)
		}
		if err != nil {
			return
		}
		s.Noisy()
		if s.Run == nil {
			return
		}
		for i := range s.Run.Scenarios {
			row := &s.Run.Scenarios[i]
			if s.Row(row.ID) != row {
				t.Errorf("%q: got another row", row.ID)
			}
			if h, err := row.Recorded(); err == nil && h != nil && h.TotalCount() > 0 {
				_ = percentiles(h)
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"runtime"
	"runtime/metrics"
	"strings"
	"testing"
	"time"
)

// TestRuntimes does a short round of each row. What is slow is not judged here.
func TestRuntimes(t *testing.T) {
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	if len(cpus) < 2 {
		t.Skip("needs two CPUs: who asks would keep the worker from its own")
	}
	t.Setenv(childEnv, "1") // for who asks
	procs := runtime.GOMAXPROCS(0)
	t.Cleanup(func() { runtime.GOMAXPROCS(procs) })
	seen := map[string]bool{}
	for _, s := range Runtimes() {
		i := s.Describe()
		if i.ID == "runtime-garbage-limit" {
			continue // it changes the collector of the process for good
		}
		t.Run(i.ID, func(t *testing.T) {
			if seen[i.ID] {
				t.Fatalf("%s is there twice", i.ID)
			}
			seen[i.ID] = true
			session, err := s.Open(Place{cpus[0], cpus[1]})
			if err != nil {
				t.Fatal(err)
			}
			samples := make([]uint32, 50)
			got, err := session.Round(RoundOptions{Warmup: 20, Budget: 10 * time.Second}, samples)
			if err := session.Close(); err != nil {
				t.Error(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Pace != stormPace {
				t.Errorf("got a pace of %v, want %v: who asks does not ask while he waits", got.Pace, stormPace)
			}
			if got.Samples == 0 || got.Failed == got.Samples {
				t.Errorf("got %d samples of which %d failed, want some that were answered", got.Samples, got.Failed)
			}
			if n := got.Figures[FigureCollections]; n != 0 && i.ID == "runtime-calm" {
				t.Errorf("got %v collections without a storm", n)
			}
			if got.Figures[FigureCollections] == 0 && strings.Contains(i.ID, "-gc") {
				t.Error("no collection was forced")
			}
			if got.Figures[FigureCollections] > 0 && got.Figures[FigurePause] == 0 {
				t.Error("a collection stopped the world for no time")
			}
		})
	}
}

func TestQuantileBetween(t *testing.T) {
	h := func(counts ...uint64) *metrics.Float64Histogram {
		return &metrics.Float64Histogram{Counts: counts, Buckets: []float64{0, 1e-6, 2e-6, 4e-6}}
	}
	f := func(name string, to *metrics.Float64Histogram, q, want float64) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := quantileBetween(h(5, 5, 0), to, q); got < want-1e-3 || got > want+1e-3 {
				t.Errorf("got %v ns, want %v", got, want)
			}
		})
	}
	f("nothing since", h(5, 5, 0), 1, 0)
	f("one, in the middle", h(5, 6, 0), 0.99, 2000)
	f("the longest", h(105, 5, 1), 1, 4000)
	f("99 of 100", h(104, 5, 1), 0.99, 1000)
}

// TestRuntimeTable compares the table with a file, the rows being made up.
func TestRuntimeTable(t *testing.T) {
	r := &RuntimeReport{Report: quietReport()}
	r.Scenarios = nil
	for n, s := range Runtimes() {
		i := s.Describe()
		p := Percentiles{P50: 1000, P90: 1100, P99: 20_000, P999: int64(n) * 50_000, Max: 3_000_000}
		r.Scenarios = append(r.Scenarios, ScenarioReport{ID: i.ID, Responder: i.Responder, Status: Measured, Samples: 1000, Median: &p, Merged: &p,
			Figures: map[string]float64{FigureCollections: float64(n), FigurePause: 120_000, FigureSchedP99: 800}})
	}
	r.Scenarios[3] = ScenarioReport{ID: r.Scenarios[3].ID, Responder: r.Scenarios[3].Responder, Status: Broken, Reason: "it hangs"}
	r.Verdict = judgeRuntime(r.Report)
	var out bytes.Buffer
	if err := r.WriteTable(&out); err != nil {
		t.Fatal(err)
	}
	golden(t, "table_runtime.txt", out.String())
}

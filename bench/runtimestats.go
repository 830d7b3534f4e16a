// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"runtime/metrics"
)

// The figures of the Go runtime in a round, from package runtime/metrics, whose histograms
// say which bucket a duration is in: its upper end is taken.
const (
	FigureCollections = "gc_cycles"
	FigurePause       = "gc_pause_max_ns"      // longest stop of the world by the collector
	FigureSchedP99    = "sched_latency_p99_ns" // of goroutines that could run, until they did
)

const (
	metricCycles = "/gc/cycles/total:gc-cycles"
	metricPauses = "/sched/pauses/total/gc:seconds"
	metricSched  = "/sched/latencies:seconds"
)

// runtimeStats is a reading.
type runtimeStats struct {
	cycles        uint64
	pauses, sched metrics.Float64Histogram
}

func readRuntime() runtimeStats {
	m := []metrics.Sample{{Name: metricCycles}, {Name: metricPauses}, {Name: metricSched}}
	metrics.Read(m)
	return runtimeStats{m[0].Value.Uint64(), *m[1].Value.Float64Histogram(), *m[2].Value.Float64Histogram()}
}

// since returns the figures of the time since an earlier reading.
func (s runtimeStats) since(before runtimeStats) map[string]float64 {
	return map[string]float64{
		FigureCollections: float64(s.cycles - before.cycles),
		FigurePause:       quantileBetween(&before.pauses, &s.pauses, 1),
		FigureSchedP99:    quantileBetween(&before.sched, &s.sched, 0.99),
	}
}

// quantileBetween returns a quantile of what a histogram of seconds counted between two readings,
// in nanoseconds; 0 when that was nothing.
func quantileBetween(from, to *metrics.Float64Histogram, q float64) float64 {
	total := uint64(0)
	for i := range to.Counts {
		total += to.Counts[i] - from.Counts[i]
	}
	// The number, from 1, of the one that is looked for.
	rank := uint64(math.Ceil(q * float64(total)))
	for i, seen := 0, uint64(0); i < len(to.Counts); i++ {
		if seen += to.Counts[i] - from.Counts[i]; seen > 0 && seen >= rank {
			top := to.Buckets[i+1]
			if math.IsInf(top, 1) {
				top = to.Buckets[i]
			}
			return top * 1e9
		}
	}
	return 0
}

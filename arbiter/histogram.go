// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts latencies in log-linear buckets: 16 to each power of two, so
// a bucket is at most 1/16 of its value wide.
const (
	histSubBits = 4
	histSub     = 1 << histSubBits
	histMaxBits = 40 // beyond 2^40 ns (18 minutes) everything is one bucket
	histBuckets = (histMaxBits - histSubBits + 1) * histSub
)

// histogram is written by one worker and read by anyone.
type histogram [histBuckets]atomic.Uint64

// bucketOf returns the bucket of ns.
func bucketOf(ns uint64) int {
	if ns < histSub {
		return int(ns)
	}
	exp := bits.Len64(ns) - 1 - histSubBits
	b := exp*histSub + int(ns>>exp)
	return min(b, histBuckets-1)
}

// bucketTop returns the largest value of bucket b, nanoseconds.
func bucketTop(b int) uint64 {
	if b < histSub {
		return uint64(b)
	}
	exp := b/histSub - 1
	return uint64(b-exp*histSub+1)<<exp - 1
}

// total counts everything recorded.
func (h *histogram) total() (n uint64) {
	for i := range h {
		n += h[i].Load()
	}
	return n
}

func (h *histogram) record(ns uint64) { h[bucketOf(ns)].Add(1) }

// histogramSum adds the histograms of all workers up.
type histogramSum struct {
	buckets [histBuckets]uint64
	count   uint64
	max     uint64
}

// add adds one worker's, whose largest latency is in maxNS before it is in h.
func (s *histogramSum) add(h *histogram, maxNS *atomic.Uint64) {
	for i := range h {
		n := h[i].Load()
		s.buckets[i] += n
		s.count += n
	}
	s.max = max(s.max, maxNS.Load())
}

func (s *histogramSum) latency() Latency {
	return Latency{Count: s.count, P50: s.quantile(0.5), P90: s.quantile(0.9), P99: s.quantile(0.99),
		P999: s.quantile(0.999), Max: time.Duration(s.max)}
}

// quantile returns the value that a share q of the latencies does not exceed, 0
// when there are none.
func (s *histogramSum) quantile(q float64) time.Duration {
	rank := uint64(q * float64(s.count))
	var seen uint64
	for b, n := range s.buckets {
		seen += n
		if n > 0 && seen > rank || seen == s.count && seen > 0 {
			return time.Duration(min(bucketTop(b), s.max))
		}
	}
	return 0
}

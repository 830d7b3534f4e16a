// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// The range and precision of every histogram: 1 ns to 10 s, three digits. A
// longer duration counts as 10 s.
const (
	lowestNS  = 1
	highestNS = 10_000_000_000
	digits    = 3
)

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(lowestNS, highestNS, digits) }

// record adds samples, each a number of units; 0 stands for a nanosecond. With a pace it adds as well what would have
// been asked while a sample took longer than that, and waited for the rest of it.
func record(h *hdrhistogram.Histogram, samples []uint32, unit, pace time.Duration) error {
	for _, n := range samples {
		ns := int64(n) * int64(max(unit, 1))
		if n == math.MaxUint32 {
			ns = highestNS // it took that or more: never less than it did, so the longest there is
		}
		if err := h.RecordCorrectedValue(min(max(ns, lowestNS), highestNS), int64(pace)); err != nil {
			return fmt.Errorf("recording %d ns: %w", ns, err)
		}
	}
	return nil
}

// encode returns the histogram in the V2 compressed encoding, base64: what every
// HdrHistogram library reads.
func encode(h *hdrhistogram.Histogram) (string, error) {
	b, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	if err != nil {
		return "", fmt.Errorf("encoding a histogram: %w", err)
	}
	return string(b), nil
}

// decode reads what encode wrote and refuses another geometry.
func decode(s string) (*hdrhistogram.Histogram, error) {
	h, err := hdrhistogram.Decode([]byte(s))
	if err != nil {
		return nil, fmt.Errorf("decoding a histogram: %w", err)
	}
	if h.SignificantFigures() != digits || h.HighestTrackableValue() < highestNS {
		return nil, fmt.Errorf("decoding a histogram: %d digits up to %d ns, want %d up to %d",
			h.SignificantFigures(), h.HighestTrackableValue(), digits, int64(highestNS))
	}
	return h, nil
}

// Percentiles are durations in nanoseconds; each is at most 0.1 % above the truth.
type Percentiles struct {
	P50  int64 `json:"p50_ns"`
	P90  int64 `json:"p90_ns"`
	P99  int64 `json:"p99_ns"`
	P999 int64 `json:"p99_9_ns"`
	Max  int64 `json:"max_ns"`
}

func percentiles(h *hdrhistogram.Histogram) Percentiles {
	return Percentiles{
		P50:  h.ValueAtPercentile(50),
		P90:  h.ValueAtPercentile(90),
		P99:  h.ValueAtPercentile(99),
		P999: h.ValueAtPercentile(99.9),
		Max:  h.Max(),
	}
}

// medians returns for each percentile the median over the rounds; of an even
// number, the mean of the middle two. A round that was disturbed moves it little.
func medians(rounds []Percentiles) Percentiles {
	of := func(f func(Percentiles) int64) int64 {
		v := make([]int64, len(rounds))
		for i, r := range rounds {
			v[i] = f(r)
		}
		slices.Sort(v)
		if len(v) == 0 {
			return 0
		}
		return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
	}
	return Percentiles{
		P50:  of(func(p Percentiles) int64 { return p.P50 }),
		P90:  of(func(p Percentiles) int64 { return p.P90 }),
		P99:  of(func(p Percentiles) int64 { return p.P99 }),
		P999: of(func(p Percentiles) int64 { return p.P999 }),
		Max:  of(func(p Percentiles) int64 { return p.Max }),
	}
}

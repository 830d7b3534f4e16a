// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const (
	// throughputID is the row of one worker that has always something to do.
	throughputID = "native-throughput"
	// throughputLot is over how many verdicts a sample is the mean.
	throughputLot = 1000
	// throughputTime is how long a round asks, unless its samples are full before.
	throughputTime = 500 * time.Millisecond
)

// FigureVerdictNS is the name of what the row of throughput counts: nanoseconds by the wall
// clock for each verdict, everything included, in the slowest round.
const FigureVerdictNS = "ns_per_verdict"

// throughputScenario is the native queue asked without a pause by one requester, timed
// by the wall clock around lots of asks: what is between two asks counts too.
type throughputScenario struct{}

func (throughputScenario) Describe() Info {
	return Info{ID: throughputID, Mechanism: NativeQueue, Responder: fmt.Sprintf("back to back, mean of %d", throughputLot)}
}

func (throughputScenario) Open(at Place) (Session, error) {
	return withNative(at, func(n *kernelbridge.Native) (Session, error) {
		inner, err := openNative(n, at, false)
		if err != nil {
			return nil, err
		}
		return &throughputSession{inner, make([]uint64, throughputLot)}, nil
	})
}

type throughputSession struct {
	*nativeSession
	lot []uint64
}

// Round asks lot after lot. A lot of which any ask got a failure verdict counts as failed.
func (s *throughputSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	if _, err := s.queue.Run(s.cpu, s.lot[:max(min(o.Warmup, len(s.lot)), 1)]); err != nil {
		return Outcome{}, err
	}
	answered, err := s.answered()
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	begin := time.Now()
	end, last := time.Duration(0), min(o.Budget, throughputTime)
	for out.Samples < len(samples) && end <= last {
		if _, err := s.queue.Run(s.cpu, s.lot); err != nil {
			return Outcome{}, err
		}
		now := time.Since(begin)
		samples[out.Samples] = uint32(min(int64(now-end)/throughputLot, math.MaxUint32))
		out.Samples++
		end = now
	}
	after, err := s.answered()
	if err != nil {
		return Outcome{}, err
	}
	verdicts := after - answered
	if verdicts == 0 {
		return Outcome{Samples: out.Samples, Failed: out.Samples}, nil
	}
	out.Failed = min(out.Samples*throughputLot-verdicts, out.Samples)
	out.Figures = map[string]float64{FigureVerdictNS: float64(end) / float64(verdicts)}
	return out, nil
}

// answered returns how many asks have been answered so far.
func (s *throughputSession) answered() (int, error) {
	c, err := s.queue.Counts(abi.EventOpen)
	return int(c.Answered), err
}

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
// clock for each verdict, all of a lot included, in the slowest round.
const FigureVerdictNS = "ns_per_verdict"

// throughputScenario is the native queue asked without a pause by one requester, timed
// by the wall clock around lots of asks: what is between two asks counts too, what is between two lots does not.
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
	before, err := s.answered()
	if err != nil {
		return Outcome{}, err
	}
	var out Outcome
	var took time.Duration
	first := before
	for last := min(o.Budget, throughputTime); out.Samples < len(samples) && took <= last; out.Samples++ {
		begin := time.Now()
		if _, err := s.queue.Run(s.cpu, s.lot); err != nil {
			return Outcome{}, err
		}
		lot := time.Since(begin)
		samples[out.Samples] = uint32(min(int64(lot)/throughputLot, math.MaxUint32))
		took += lot
		after, err := s.answered()
		if err != nil {
			return Outcome{}, err
		}
		if after-before < throughputLot {
			out.Failed++
		}
		before = after
	}
	// In a round without any verdict one would have taken longer than all of it.
	out.Figures = map[string]float64{FigureVerdictNS: float64(took) / float64(max(before-first, 1))}
	return out, nil
}

// answered returns how many asks have been answered so far.
func (s *throughputSession) answered() (int, error) {
	c, err := s.queue.Counts(abi.EventOpen)
	return int(c.Answered), err
}

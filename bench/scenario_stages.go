// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// stagesID is the row of the native queue by stages.
const stagesID = "native-stages"

// stageNames are the stages of a verdict in their order. What each took at p50 is a figure
// of the row, stage_NAME_ns.
var stageNames = [...]string{
	"claim",  // the requester finds somebody there, and a free slot
	"fill",   // it copies the facts
	"post",   // it makes the slot known
	"queue",  // until a worker has found it and copied the facts
	"decide", // until the worker has a verdict
	"reply",  // until the worker has written it
	"resume", // until the requester has read it; 0 when it was quicker than the worker's next look at the clock
}

// FigureStage is the name of a stage's figure.
func FigureStage(name string) string { return "stage_" + name + "_ns" }

// stagesScenario is the native queue with a look at the clock after each stage: it shows where
// the time is, and all of it is longer than without by those looks.
type stagesScenario struct{}

func (stagesScenario) Describe() Info {
	return Info{ID: stagesID, Mechanism: NativeQueue, Responder: "by stages, a look at the clock in each"}
}

func (stagesScenario) Open(at Place) (Session, error) {
	n, err := kernelbridge.OpenNative(kernelbridge.NativeOptions{CPUs: []int{at.Responder}, Wait: nativeWait})
	if err != nil {
		return nil, err
	}
	stamps := &stampSource{Source: n.Sources()[0], clock: newMonotonic()}
	inner, err := openNativeWith(n, at, false, []arbiter.Source{stamps})
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &stagesSession{inner, n, stamps}, nil
}

// stamp is when the worker had done its stages: CLOCK_MONOTONIC, nanoseconds.
type stamp struct{ taken, decided, replied int64 }

// stampSource notes the times of the worker. While one requester asks, question after question,
// the n-th stamp is of its n-th question.
type stampSource struct {
	arbiter.Source
	clock  monotonicClock
	stamps [stagesChunk]stamp
	n      int // changed by the worker while somebody asks, by the session while nobody does
}

func (s *stampSource) Next(r *abi.Request) bool {
	if !s.Source.Next(r) {
		return false
	}
	s.stamps[s.n%stagesChunk].taken = s.clock.now()
	return true
}

func (s *stampSource) Reply(r *abi.Request, v abi.Verdict) bool {
	at := &s.stamps[s.n%stagesChunk]
	at.decided = s.clock.now()
	inTime := s.Source.Reply(r, v)
	at.replied = s.clock.now()
	s.n++
	return inTime
}

// monotonicClock reads CLOCK_MONOTONIC without a system call.
type monotonicClock struct {
	base   time.Time
	offset int64
}

// newMonotonic puts the two clocks beside each other by the quickest of many system calls: the
// time was read in the middle of it, within some 20 ns.
func newMonotonic() (c monotonicClock) {
	shortest := time.Duration(math.MaxInt64)
	for range 1000 {
		var ts unix.Timespec
		before := time.Now()
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid pointer
		if took := time.Since(before); took < shortest {
			shortest, c = took, monotonicClock{before.Add(took / 2), ts.Nano()}
		}
	}
	return c
}

func (c monotonicClock) now() int64 { return c.offset + int64(time.Since(c.base)) }

// stagesChunk is how many questions are asked before the two sides are put together.
const stagesChunk = 500

type stagesSession struct {
	*nativeSession
	native *kernelbridge.Native
	stamps *stampSource
}

// Round asks in chunks. A chunk in which anything failed says nothing and counts as failed.
func (s *stagesSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	begin := time.Now()
	asked := make([]kernelbridge.Stages, stagesChunk)
	took := make([][]uint32, len(stageNames))
	if _, err := s.queue.Run(s.cpu, s.chunk[:min(o.Warmup, len(s.chunk))]); err != nil {
		return Outcome{}, err
	}
	var out Outcome
	for out.Samples < len(samples) && time.Since(begin) <= o.Budget {
		n := min(len(samples)-out.Samples, stagesChunk)
		before, err := s.idle()
		if err != nil {
			return Outcome{}, err
		}
		if err := s.native.RunStages(s.cpu, asked[:n]); err != nil {
			return Outcome{}, err
		}
		after, err := s.idle()
		if err != nil {
			return Outcome{}, err
		}
		for i, a := range asked[:n] {
			samples[out.Samples+i] = uint32(min(max(a.Settled-a.Begun, 0), math.MaxUint32))
		}
		out.Samples += n
		if after-before != n {
			out.Failed += n
			continue
		}
		for i, a := range asked[:n] {
			for stage, ns := range stagesOf(a, s.stamps.stamps[(before+i)%stagesChunk]) {
				took[stage] = append(took[stage], ns)
			}
		}
	}
	if len(took[0]) == 0 {
		return out, nil
	}
	out.Figures = map[string]float64{}
	for stage, name := range stageNames {
		slices.Sort(took[stage])
		out.Figures[FigureStage(name)] = float64(took[stage][len(took[stage])/2])
	}
	return out, nil
}

// idle waits until the worker is done with what it has taken, and returns how much that is.
func (s *stagesSession) idle() (int, error) {
	for begin := time.Now(); ; {
		stats := s.engine.Stats()
		if stats.InFlight == 0 {
			return int(stats.Requests), nil
		}
		if time.Since(begin) > time.Second {
			return 0, fmt.Errorf("waiting for the worker: it has not answered %d questions", stats.InFlight)
		}
	}
}

// stagesOf returns how long each stage took, nanoseconds. Together they are the whole.
func stagesOf(a kernelbridge.Stages, w stamp) (out [len(stageNames)]uint32) {
	at := [...]int64{a.Begun, a.Claimed, a.Filled, a.Posted, w.taken, w.decided, min(w.replied, a.Settled), a.Settled}
	for i := range out {
		// The worker can be quicker than the requester's look at the clock after posting.
		at[i+1] = max(at[i+1], at[i])
		out[i] = uint32(min(at[i+1]-at[i], math.MaxUint32))
	}
	return out
}

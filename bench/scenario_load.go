// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// loadRates are the offered rates, asks a second.
var loadRates = [...]int{1000, 10_000, 100_000, 300_000, 1_000_000}

// loadTime bounds how many asks a round has: those of so long at the row's rate.
const loadTime = time.Second

// Load returns the scenarios of `arbiter-bench load` in the order of their rounds: the queue
// and, of each opponent, what is best on the requester's own CPU and on another one.
func Load() []Scenario {
	var list []Scenario
	for _, rate := range loadRates {
		for _, of := range []Scenario{nativeScenario{}, fanotifyScenario{sameCPU: true}, fanotifyScenario{poll: true},
			seccompScenario{sameCPU: true, syncWakeUp: true}, seccompScenario{poll: true}} {
			list = append(list, loadScenario{of, rate})
		}
	}
	return list
}

// loadScenario is another one whose asks begin when they are due, whether or not the one
// before has been answered: what an ask takes is counted from its time, so those that
// wait for their turn say so. One requester asks, as one thread does.
type loadScenario struct {
	of   Scenario
	rate int // a second
}

func (s loadScenario) Describe() Info {
	i := s.of.Describe()
	i.ID = fmt.Sprintf("load-%d-%s", s.rate, i.ID)
	i.Baseline = "" // its own calls are not under load
	i.MaxSamples = max(int(int64(s.rate)*int64(loadTime)/int64(time.Second)), 1)
	return i
}

func (s loadScenario) Open(at Place) (Session, error) {
	inner, err := s.of.Open(at)
	if err != nil {
		return nil, err
	}
	p, ok := inner.(paced)
	if !ok {
		return nil, errors.Join(fmt.Errorf("BUG: %s cannot be asked at given times", s.of.Describe().ID), inner.Close())
	}
	return &loadSession{p, s.rate}, nil
}

// paced is a session that asks at given times: once per time of due, since a moment soon
// after the call, and stores how long after it each answer came. No ask begins later
// than the budget.
type paced interface {
	Session
	roundAt(due []time.Duration, budget time.Duration, late []uint32) (Outcome, error)
}

type loadSession struct {
	paced
	rate int
}

// Round asks without a schedule to warm up, then by it.
func (s *loadSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	if _, err := s.paced.Round(RoundOptions{Budget: o.Budget}, samples[:min(max(o.Warmup, 1), len(samples))]); err != nil {
		return Outcome{}, err
	}
	due := poisson(s.rate, len(samples))
	out, err := s.roundAt(due, o.Budget, samples)
	if err != nil {
		return out, err
	}
	answered := 1 - float64(out.Failed)/float64(max(out.Samples, 1)) // a failure verdict serves nobody
	short := 1 - (1-shortOf(due[:out.Samples], samples))*answered
	never := lateAtLeast(due, samples, out.Samples, o.Budget)
	out.Samples += never
	out.Figures = map[string]float64{FigureOffered: float64(s.rate), FigureShort: max(short, float64(never)/float64(max(out.Samples, 1)))}
	return out, nil
}

// lateAtLeast fills in what is known of the asks, from the n-th on, that were due within the budget and not made: each was as
// late as there was left of it. It returns how many there are.
func lateAtLeast(due []time.Duration, late []uint32, n int, budget time.Duration) (never int) {
	for i := n; i < len(due) && due[i] < budget; i++ {
		late[i] = uint32(min(budget-due[i], math.MaxUint32))
		never++
	}
	return never
}

// settleIn is between the call and the first time of a schedule.
const settleIn = time.Millisecond

// roundAt has the requester ask at its times.
func (p *pair) roundAt(due []time.Duration, budget time.Duration, late []uint32) (Outcome, error) {
	return p.do(round{RoundOptions: RoundOptions{Budget: budget}, samples: late, due: due})
}

// dueQueue is a queue that can be asked at given times; *kernelbridge.Native is one.
type dueQueue interface {
	RunDue(cpu int, due []int64, took []uint64) error
}

// dueLot is how many asks are made between two looks at the budget.
const dueLot = 5000

// roundAt asks from the program. Failures are counted as in Round.
func (s *nativeSession) roundAt(due []time.Duration, budget time.Duration, late []uint32) (Outcome, error) {
	q, ok := s.queue.(dueQueue)
	if !ok {
		return Outcome{}, errors.New("asking at given times: this queue cannot")
	}
	before, err := s.queue.Counts(abi.EventOpen)
	if err != nil {
		return Outcome{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return Outcome{}, fmt.Errorf("reading the clock: %w", err)
	}
	begin := time.Now()
	at, took := make([]int64, len(due)), make([]uint64, len(due))
	for i, d := range due {
		at[i] = now.Nano() + int64(settleIn+d)
	}
	done := 0
	for done < len(due) && time.Since(begin) <= budget {
		end := min(done+dueLot, len(due))
		if err := q.RunDue(s.cpu, at[done:end], took[done:end]); err != nil {
			return Outcome{}, err
		}
		done = end
	}
	for i, ns := range took[:done] {
		late[i] = uint32(min(ns, math.MaxUint32))
	}
	return s.outcome(before, done)
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// rungQueue is what a session needs of the hooks; *kernelbridge.LSM is one.
type rungQueue interface {
	Sources() []*ring.Source
	Configure(kernelbridge.Scope, kernelbridge.Policy) error
	SetPolicy(kernelbridge.Policy) error
	Arm(on bool)
	Counts(e abi.Event) (kernelbridge.Counts, error)
	Claims() uint64
	Close() error
}

// rungCaller makes the calls of a round and returns how many counted; *ordered is one.
type rungCaller interface {
	round(o RoundOptions, samples []uint32) (int, error)
	close() error
}

// rungSession is a caller with the hooks that ask about it.
type rungSession struct {
	rungScenario
	queue  rungQueue // nil: nobody is asked
	at     Place
	dir    string // what is in scope, with the file that is called about
	caller rungCaller
	round  sync.Mutex // is held by the round that is under way
}

// The figures of a row that is asked about: of all calls of a round, warm-up among them, those
// that were asked about, that were unwound, and whose task slept; and the samples that are
// none, as the task waited on another rung.
const (
	FigureAsked   = "asked"
	FigureUnwound = "unwound"
	FigureSlept   = "slept"
	FigureLeftOut = "left_out"
)

// Round attaches the programs, has the caller call, and detaches them.
func (s *rungSession) Round(o RoundOptions, samples []uint32) (out Outcome, fault error) {
	s.round.Lock()
	defer s.round.Unlock()
	if s.queue == nil {
		out.Samples, fault = s.caller.round(o, samples)
		return out, fault
	}
	defer func() { fault = errors.Join(fault, s.disarm()) }()
	if err := s.arm(); err != nil {
		return out, err
	}
	before, err := s.counts()
	if err != nil {
		return out, err
	}
	w, err := s.startWorker(o.Warmup + len(samples))
	if err != nil {
		return out, err
	}
	n, err := s.caller.round(o, samples)
	w.stop()
	if err != nil {
		return out, err
	}
	after, err := s.counts()
	if err != nil {
		return out, err
	}
	return s.judge(samples[:n], o.Warmup, after.less(before), w.slept[:min(w.n, len(w.slept))])
}

// arm has the hook ask about the folder, with the facts that the daemon fetches.
func (s *rungSession) arm() error {
	p := kernelbridge.Policy{Asked: 1 << s.event(), Sleep: rungSleep}
	p.Want[s.event()] = abi.FieldPath | abi.FieldExe | abi.FieldDetail | abi.FieldArgs
	if err := s.queue.Configure(kernelbridge.Scope{Trees: []string{s.dir}}, p); err != nil {
		return err
	}
	s.queue.Arm(true)
	return nil
}

// rungSleep bounds one wait of a task that has given its CPU back.
const rungSleep = 20 * time.Second

func (s *rungSession) disarm() error {
	s.queue.Arm(false)
	return s.queue.SetPolicy(kernelbridge.Policy{})
}

// rungWorker is who answers.
type rungWorker struct {
	src   *ring.Source
	ended atomic.Bool
	done  chan struct{}
	parks bool // whenever there is no question
	q     *abi.Request
	slept []bool // for each answer, in their order: its task had gone to sleep
	n     int    // answers
}

// startWorker starts who answers; most is how many questions there will be at the most.
func (s *rungSession) startWorker(most int) (*rungWorker, error) {
	w := &rungWorker{src: s.queue.Sources()[0], done: make(chan struct{}), parks: s.rung != polls, q: new(abi.Request), slept: make([]bool, most)}
	up := make(chan error, 1)
	go func() {
		defer close(w.done)
		err := pinThread(s.at.Responder)
		up <- err
		if err == nil {
			w.answer()
		}
	}()
	if err := <-up; err != nil {
		<-w.done
		return nil, err
	}
	return w, nil
}

// answer answers until stop is called, detached as the daemon does.
func (w *rungWorker) answer() {
	for !w.ended.Load() {
		detached.Run(w)
		if w.src.Next(w.q) {
			before := w.src.Slept()
			w.src.Reply(w.q, abi.Verdict{})
			w.note(w.src.Slept() != before)
		} else if w.parks && !detached.Can {
			w.src.Park(time.Second)
		}
	}
}

// Detached answers until there is something that is not seen to detached.
//
//go:nosplit
func (w *rungWorker) Detached() {
	for detached.Can && !w.ended.Load() {
		taken, served := w.src.NextDetached(w.q)
		if taken {
			before := w.src.Slept()
			w.src.ReplyDetached(w.q, abi.Verdict{})
			w.note(w.src.Slept() != before)
		} else if !served || w.parks && !w.src.ParkDetached(time.Second) {
			return
		}
	}
}

//go:nosplit
func (w *rungWorker) note(slept bool) {
	if w.n < len(w.slept) { // else there are more answers than questions, which judge finds by the counts
		w.slept[w.n] = slept
	}
	w.n++
}

func (w *rungWorker) stop() {
	w.ended.Store(true)
	w.src.Wake()
	<-w.done
}

// rungCounts are what was counted since the queue was opened.
type rungCounts struct{ asked, answered, claims uint64 }

func (s *rungSession) counts() (rungCounts, error) {
	c, err := s.queue.Counts(s.event())
	return rungCounts{c.Asked, c.Answered, s.queue.Claims()}, err
}

func (c rungCounts) less(b rungCounts) rungCounts {
	return rungCounts{c.asked - b.asked, c.answered - b.answered, c.claims - b.claims}
}

// judge keeps the samples whose task waited on the row's rung. One caller makes one call after
// another, so its calls and the answers are in the same order. Who sleeps in a hook that must
// not has unwound: there is no other way. It is no result when fewer than half of the
// calls took the rung, or when what was counted does not fit together.
func (s *rungSession) judge(samples []uint32, warmup int, c rungCounts, slept []bool) (Outcome, error) {
	calls, sleepers := len(samples)+warmup, 0
	if len(samples) == 0 {
		return Outcome{}, nil // the budget went while it warmed up
	}
	if c.asked != uint64(calls) || c.answered != c.asked || len(slept) != calls || c.claims < c.asked {
		return Outcome{}, fmt.Errorf("counting the questions of %d calls: %d were asked, %d answered, %d by the worker, and %d slots claimed", calls, c.asked, c.answered, len(slept), c.claims)
	}
	kept := 0
	for i, asleep := range slept {
		if asleep {
			sleepers++
		}
		if i >= warmup && asleep == (s.rung != polls) {
			samples[kept] = samples[i-warmup]
			kept++
		}
	}
	unwound := int(c.claims - c.asked)
	if kept < (len(samples)+1)/2 || s.rung != unwinds && unwound > 0 || s.rung == unwinds && unwound < sleepers {
		return Outcome{}, fmt.Errorf("timing %d calls by the rung %s: %d were unwound, %d slept, so they waited on another rung; measure again on a quieter machine", calls, s.rung, unwound, sleepers)
	}
	return Outcome{Samples: kept, Figures: map[string]float64{FigureAsked: float64(calls), FigureUnwound: float64(unwound), FigureSlept: float64(sleepers),
		FigureLeftOut: float64(len(samples) - kept)}}, nil
}

// Close ends the caller, the round with it, then the hooks.
func (s *rungSession) Close() error {
	var errs []error
	if s.caller != nil {
		errs = append(errs, s.caller.close())
	}
	s.round.Lock()
	defer s.round.Unlock()
	if s.queue != nil {
		errs = append(errs, s.queue.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

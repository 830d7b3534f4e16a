// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
)

// gateScenario sleeps at the gate until a parked worker wakes up and answers: what a task
// does whose verdict does not come while it polls. LSM programs get there by a kfunc;
// getxattr(2) takes the same way and adds its own entry and exit.
//
// Whoever sleeps is a process of its own: a task that sleeps at its own process's gate
// could not be killed.
type gateScenario struct{ sameCPU bool }

func (s gateScenario) Describe() Info {
	i := Info{ID: "gate-other", Mechanism: Gate, Responder: "other CPU, parked worker"}
	if s.sameCPU {
		i.ID, i.Responder, i.SameCPU = "gate-same", "same CPU, parked worker", true
	}
	return i
}

func (s gateScenario) Open(at Place) (_ Session, err error) {
	g, err := gate.Open(gate.Options{Workers: 1, Slots: &oneSleeper{}})
	if err != nil {
		var no *gate.UnsupportedError
		if errors.As(err, &no) {
			return nil, &UnavailableError{"sleeping at a gate", no.Hint, err}
		}
		return nil, err
	}
	p, err := g.Parker(0, -1, nil)
	if err != nil {
		return nil, errors.Join(err, g.Close())
	}
	sess := &gateSession{gate: g, stop: make(chan struct{})}
	up := make(chan error, 1)
	sess.running.Go(func() { sess.answer(p, at.Responder, up) })
	sess.running.Go(sess.beat)
	err = <-up
	if err == nil {
		sess.sleeper, err = startOrdered(SleeperWord, strconv.Itoa(g.Identity().PID), strconv.Itoa(at.Requester))
	}
	if err != nil {
		return nil, errors.Join(err, sess.Close())
	}
	return sess, nil
}

// oneSleeper is a queue in which slot 0 waits for an answer whenever somebody asks.
type oneSleeper struct{}

//
//go:nosplit
func (*oneSleeper) State(slot int, _ uint32) gate.State {
	if slot == 0 {
		return gate.Waiting
	}
	return gate.Foreign
}

func (*oneSleeper) Sleeps() uint64 { return 0 }

type gateSession struct {
	gate    *gate.Gate
	stop    chan struct{}
	running sync.WaitGroup
	sleeper *ordered
}

// answer is the worker: parked, it wakes up with a sleeper and answers.
func (s *gateSession) answer(p *gate.Parker, cpu int, up chan<- error) {
	runtime.LockOSThread() // never unlocked: the thread ends with its affinity
	up <- pinThread(cpu)
	for {
		select {
		case <-s.stop:
			return
		default:
		}
		p.Wait(gateTick)
		s.gate.Release(0)
	}
}

// gateTick is the period of the gate's clock, as in the daemon.
const gateTick = 20 * time.Millisecond

func (s *gateSession) beat() {
	tick := time.NewTicker(gateTick)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			s.gate.Tick()
		}
	}
}

// Round has the sleeper do one.
func (s *gateSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	n, err := s.sleeper.round(o, samples)
	return Outcome{Samples: n}, err
}

// Close ends the sleeper first: it sleeps only while somebody answers.
func (s *gateSession) Close() error {
	var errs []error
	if s.sleeper != nil {
		errs = append(errs, s.sleeper.close())
	}
	close(s.stop)
	s.running.Wait()
	return errors.Join(append(errs, s.gate.Close())...)
}

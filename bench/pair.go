// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"sync/atomic"
	"time"
)

// responder answers from one pinned thread.
type responder interface {
	// answer waits for a question and answers it and those behind it. It returns
	// how many it answered, 0 when it was interrupted: it is called again.
	answer() (int, error)
	close() error
}

// pair is a Session of two pinned threads: one asks, one answers. Both live as
// long as the session and block between rounds.
type pair struct {
	rounds chan round
	done   chan outcome // from the requester
	starts chan struct{}
	faults chan error   // from the responder; it has ended
	last   atomic.Int64 // asks of the round, 0 before its end is known
	resp   responder    // nil for a baseline
}

type round struct {
	RoundOptions
	samples []uint32
	due     []time.Duration // nil: one ask after another
}

type outcome struct {
	samples int
	err     error
}

// setup prepares both sides on the requester's own pinned thread, so that it can
// put that thread under a filter. A nil responder means that nobody answers.
type setup func() (call, responder, error)

// openPair starts both threads.
func openPair(at Place, prepare setup) (*pair, error) {
	p := &pair{rounds: make(chan round), done: make(chan outcome), starts: make(chan struct{}), faults: make(chan error, 1)}
	up := make(chan error, 1)
	go p.request(at.Requester, prepare, up)
	if err := <-up; err != nil {
		return nil, err
	}
	if p.resp == nil {
		return p, nil
	}
	go p.respond(at.Responder, up)
	if err := <-up; err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *pair) request(cpu int, prepare setup, up chan<- error) {
	if err := pinThread(cpu); err != nil {
		up <- err
		return
	}
	c, resp, err := prepare()
	p.resp = resp
	up <- err
	if err != nil {
		return
	}
	q := newRequester(c)
	for r := range p.rounds {
		n, err := q.run(r, &p.last)
		p.done <- outcome{n, err}
	}
}

func (p *pair) respond(cpu int, up chan<- error) {
	err := pinThread(cpu)
	up <- err
	if err != nil {
		return
	}
	for range p.starts {
		for answered := int64(0); answered == 0 || answered != p.last.Load(); {
			n, err := p.resp.answer()
			if err != nil {
				p.faults <- err
				return
			}
			answered += int64(n)
		}
		p.faults <- nil
	}
}

// Round does one round. After an error one of the two sides may still be inside
// its system call: the session is of no further use and its process must end.
func (p *pair) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	return p.do(round{RoundOptions: o, samples: samples})
}

func (p *pair) do(r round) (Outcome, error) {
	p.last.Store(0)
	if p.resp != nil {
		p.starts <- struct{}{}
	}
	p.rounds <- r
	if p.resp == nil {
		out := <-p.done
		return Outcome{Samples: out.samples}, out.err
	}
	// Normally both end after the last answer, in either order.
	var out outcome
	var fault error
	select {
	case out = <-p.done:
		if out.err == nil {
			fault = <-p.faults
		}
	case fault = <-p.faults:
		if fault == nil {
			out = <-p.done
		}
	}
	return Outcome{Samples: out.samples}, errors.Join(fault, out.err)
}

// Close ends both threads.
func (p *pair) Close() error {
	close(p.rounds)
	close(p.starts)
	if p.resp != nil {
		return p.resp.close()
	}
	return nil
}

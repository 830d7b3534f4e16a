// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// serving is a gate with its parker, which counts.
type serving struct {
	released, served, detached atomic.Uint64
	other                      bool // there is something that only Serve sees to
}

func (g *serving) Release(int)    { g.released.Add(1) }
func (g *serving) Served() uint64 { return g.served.Load() }

type servingParker struct {
	ring.Parker
	g *serving
}

func (p servingParker) Serve() { p.g.served.Add(1) }
func (p servingParker) ServeDetached() (served bool) {
	if p.g.other {
		return false
	}
	p.g.served.Add(1)
	p.g.detached.Add(1)
	return true
}
func (p servingParker) WaitDetached(time.Duration) (served bool) { return !p.g.other }
func (servingParker) Wake()                                      {}

// Who sleeps is served as soon as it was answered detached, or is on its way, however many others
// ask.
func TestSleepersAreServedBeforeOthers(t *testing.T) {
	r := newRing(t, 1)
	g := &serving{}
	r.SetGate(g, []ring.GateParker{servingParker{g: g}})
	s := r.Sources()[0]
	var q abi.Request
	if taken, served := s.NextDetached(&q); taken || !served {
		t.Fatalf("an empty queue: taken %t, served %t, want only the second", taken, served)
	}

	post(r, 3, 5, ring.Facts{Event: uint32(abi.EventOpen)}, "/a")
	post(r, 4, 5, ring.Facts{Event: uint32(abi.EventOpen)}, "/b")
	if taken, _ := s.NextDetached(&q); !taken || q.Ticket != 3 {
		t.Fatalf("taken %t, slot %d, want slot 3", taken, q.Ticket)
	}
	set(r, 3, q.Word|abi.Sleeping)
	atomic.AddUint64(&r.Header().Sleeps, 1)
	if !s.ReplyDetached(&q, abi.Verdict{}) || g.released.Load() != 1 || s.Slept() != 1 {
		t.Fatalf("released %d, slept %d, want an answer in time and one of each", g.released.Load(), s.Slept())
	}
	if taken, served := s.NextDetached(&q); !taken || !served || q.Ticket != 4 || g.served.Load() != 1 {
		t.Fatalf("after an answer to who sleeps: taken %t, slot %d, served %t, %d times", taken, q.Ticket, served, g.served.Load())
	}
	s.Reply(&q, abi.Verdict{})

	atomic.AddUint64(&r.Header().Sleeps, 1) // another is on its way
	if taken, served := s.NextDetached(&q); taken || !served || g.detached.Load() != 2 {
		t.Errorf("with a sleeper on its way: taken %t, served %t, %d times detached", taken, served, g.detached.Load())
	}
}

// What only Serve sees to has Next called, however many others ask.
func TestWhatIsLeftIsServedBeforeOthers(t *testing.T) {
	var q abi.Request
	for name, leave := range map[string]func(r *ring.Ring) (served bool){
		"on its way": func(r *ring.Ring) bool {
			atomic.AddUint64(&r.Header().Sleeps, 1)
			_, served := r.Sources()[0].NextDetached(&q)
			return served
		},
		"parked": func(r *ring.Ring) bool { return r.Sources()[0].ParkDetached(0) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 1)
			g := &serving{other: true}
			r.SetGate(g, []ring.GateParker{servingParker{g: g}})
			s := r.Sources()[0]
			if leave(r) {
				t.Error("it was served")
			}
			post(r, 3, 5, ring.Facts{Event: uint32(abi.EventOpen)}, "/a")
			if taken, served := s.NextDetached(&q); taken || served || g.served.Load() != 0 {
				t.Errorf("taken %t, served %t, want neither", taken, served)
			}
			take(t, s, &q, 3)
			if n := g.served.Load(); n != 1 {
				t.Errorf("served %d times, want once", n)
			}
		})
	}
}

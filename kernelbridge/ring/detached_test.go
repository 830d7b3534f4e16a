// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"sync/atomic"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// serving is a gate with its parker, which counts.
type serving struct{ released, served atomic.Uint64 }

func (g *serving) Release(int)    { g.released.Add(1) }
func (g *serving) Served() uint64 { return g.served.Load() }

type servingParker struct {
	ring.Parker
	g *serving
}

func (p servingParker) Serve() { p.g.served.Add(1) }
func (servingParker) Wake()    {}

// Who sleeps is served by Next as soon as it was answered detached, or is on its way, however
// many others ask.
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
	if taken, served := s.NextDetached(&q); taken || served {
		t.Fatalf("after an answer to who sleeps: taken %t, served %t, want neither", taken, served)
	}
	take(t, s, &q, 4) // serves first
	if g.served.Load() != 1 {
		t.Errorf("served %d times, want once", g.served.Load())
	}
	s.Reply(&q, abi.Verdict{})

	atomic.AddUint64(&r.Header().Sleeps, 1) // another is on its way
	if taken, served := s.NextDetached(&q); taken || served {
		t.Errorf("with a sleeper on its way: taken %t, served %t, want neither", taken, served)
	}
	if s.Next(&q) || g.served.Load() != 2 {
		t.Errorf("served %d times, want twice", g.served.Load())
	}
	if s.ParkDetached(0) {
		t.Error("a parker that cannot be waited for detached was")
	}
}

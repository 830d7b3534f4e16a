// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// State is what the queue says about a task that asks for a slot's answer.
type State uint8

const (
	// Foreign: no task with that thread id waits in the slot.
	Foreign State = iota
	// Waiting: it does, and there is no answer yet.
	Waiting
	// Answered: it does, and the slot's word is DONE.
	Answered
)

// Slots is the queue as the gate sees it. Its methods are called by whoever reads
// requests, by several at once, and must neither block nor allocate. State is called by workers
// that are detached, too: see package arbiter/detached.
type Slots interface {
	// State looks at the slot's word and facts, in that order. slot is below
	// abi.Slots. The thread id is 0 for a task of another pid namespace.
	State(slot int, tid uint32) State
	// Sleeps returns header.sleeps, how many sleeps were begun.
	Sleeps() uint64
}

// MaxSleep is when a sleep ends with "not yet", whatever happens.
const MaxSleep = time.Second

// maxOrphans bounds the interrupts that are kept for a request nobody has noted yet.
const maxOrphans = 64

// sleepers has the requests that wait for a reply, one per slot at most: a task
// sleeps in one call at a time, and a slot is one task's until that call returns.
type sleepers struct {
	// unique is the FUSE request that sleeps on the slot, 0 for none. The reader
	// that has read it stores it; whoever swaps it back to 0 replies, nobody else.
	// The kernel never uses a number twice.
	unique [abi.Slots]atomic.Uint64
	// device and since belong to unique and are stored before it: the index of the
	// channel that has read it, and when that was (coarse clock, nanoseconds).
	device [abi.Slots]atomic.Uint32
	since  [abi.Slots]atomic.Int64
	// interrupted is the request on this slot that a signal has interrupted.
	interrupted [abi.Slots]atomic.Uint64

	// orphans are interrupted requests that were not found above: replied to
	// already, or read by a thread that has not noted them yet.
	mu      sync.Mutex
	orphans [maxOrphans]orphan
	n       int // in use
}

type orphan struct {
	unique uint64
	since  int64
}

// note stores a request that sleeps on slot.
//
//go:nosplit
func (s *sleepers) note(slot, device int, unique uint64, now int64) (before uint64) {
	s.device[slot].Store(uint32(device))
	s.since[slot].Store(now)
	return s.unique[slot].Swap(unique)
}

// find returns the slot that a request sleeps on.
//
//go:nosplit
func (s *sleepers) find(unique uint64) (int, bool) {
	for i := range s.unique {
		if s.unique[i].Load() == unique {
			return i, true
		}
	}
	return 0, false
}

// noteInterrupt notes that a signal has interrupted a request that sleeps. False: it does not, or
// not yet.
//
//go:nosplit
func (s *sleepers) noteInterrupt(unique uint64) bool {
	if unique == 0 {
		return false
	}
	slot, ok := s.find(unique)
	if ok {
		s.interrupted[slot].Store(unique)
	}
	return ok
}

// interrupt notes that a signal has interrupted a request. Tick ends it.
func (s *sleepers) interrupt(unique uint64, now int64) {
	if unique == 0 || s.noteInterrupt(unique) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n < maxOrphans { // else its sleep ends after MaxSleep
		s.orphans[s.n] = orphan{unique, now}
		s.n++
	}
}

// Release replies to the request that sleeps on slot, if there is one: "look at the
// slot". Call it right after the slot's word became DONE. It neither allocates nor
// locks, and may be called from anywhere until Close.
//
//go:nosplit
func (g *Gate) Release(slot int) {
	if uint(slot) >= abi.Slots {
		return
	}
	if u := g.sleepers.unique[slot].Swap(0); u != 0 {
		g.wake(slot, u, 0)
	}
}

// wake replies to request u, which the caller has swapped out of slot. The slot
// gets no other request before: its task sleeps.
//
//go:nosplit
func (g *Gate) wake(slot int, u uint64, errno unix.Errno) {
	g.reply(&g.devices[g.sleepers.device[slot].Load()], errno, u)
}

// sleep handles a GETXATTR for slot by task tid that d has read, unless it is none of a sleeper.
//
//go:nosplit
func (g *Gate) sleep(d *device, slot int, tid uint32, u uint64) (foreign bool) {
	switch g.slots.State(slot, tid) {
	case Waiting:
	case Answered:
		g.served.Add(1)
		g.reply(d, 0, u)
		return false
	default:
		return true
	}
	s := &g.sleepers
	if before := s.note(slot, d.index, u, g.now.Load()); before != 0 {
		// Not a sleeper of ours: those are one at a time. It must not hang.
		g.stats.doubled.Add(1)
		g.reply(d, unix.ENODATA, before)
	}
	g.served.Add(1)
	// Noted first, then looked: who answers does it the other way round.
	if g.slots.State(slot, tid) != Waiting && s.unique[slot].CompareAndSwap(u, 0) {
		g.reply(d, 0, u)
	}
	return false
}

// notYet ends the sleep of request u on slot, unless somebody else just did.
func (g *Gate) notYet(slot int, u uint64) bool {
	if !g.sleepers.unique[slot].CompareAndSwap(u, 0) {
		return false
	}
	g.wake(slot, u, unix.ENODATA)
	return true
}

// Tick serves what is there and ends the sleeps that were interrupted or are older
// than MaxSleep. Call it every 20 ms, always from the same thread: it is the gate's
// clock, the bound of a killed task's wait, and the only server while all workers
// are busy. It does not block.
func (g *Gate) Tick() {
	now := monotonic()
	g.now.Store(now)
	if g.heart().serve(g, maxServe) > 0 {
		// A request wakes a parked worker, who looks for it, finds that it is
		// gone, and sleeps on. But there is a question to answer.
		g.wakeParkers()
	}
	s := &g.sleepers
	for slot := range s.unique {
		// The request first: since and interrupted can only be younger then.
		u := s.unique[slot].Load()
		switch {
		case u == 0:
		case s.interrupted[slot].Load() == u:
			if g.notYet(slot, u) {
				g.stats.interrupted.Add(1)
			}
		case now-s.since[slot].Load() >= int64(MaxSleep):
			if g.notYet(slot, u) {
				g.stats.expired.Add(1)
			}
		}
	}
	g.endOrphans(now)
	g.settle()
}

// endOrphans looks once more for the requests whose interrupt came before they were
// noted. One that stays unknown for as long as a sleep can last was replied to.
func (g *Gate) endOrphans(now int64) {
	s := &g.sleepers
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := 0
	for _, o := range s.orphans[:s.n] {
		if slot, ok := s.find(o.unique); ok {
			if g.notYet(slot, o.unique) {
				g.stats.interrupted.Add(1)
			}
		} else if now-o.since < int64(MaxSleep) {
			s.orphans[kept] = o
			kept++
		}
	}
	s.n = kept
}

// settle makes up for sleeps that were begun and never read, because their task was
// killed first: Served would be behind for good, and hot workers would look for
// requests all the time. What has not come between two ticks is not waited for; if
// it comes after all, Served is ahead, and the next tick but one puts that right.
func (g *Gate) settle() {
	begun, served := g.slots.Sleeps(), g.served.Load()
	if begun != served && begun == g.lastBegun && served == g.lastServed {
		g.served.CompareAndSwap(served, begun)
	}
	g.lastBegun, g.lastServed = begun, served
}

// Served returns how many sleepers' requests were read, modulo those that never
// came. As long as it differs from header.sleeps a polling worker should call Serve.
//
//go:nosplit
func (g *Gate) Served() uint64 { return g.served.Load() }

func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid pointer
	return ts.Nano()
}

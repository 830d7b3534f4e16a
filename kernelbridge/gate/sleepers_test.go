// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// script is a queue that says one thing after the other.
type script struct {
	says   []State
	before func(call int)
	calls  int
	sleeps uint64
}

func (s *script) Sleeps() uint64 { return s.sleeps }

func (s *script) State(int, uint32) State {
	if s.before != nil {
		s.before(s.calls)
	}
	s.calls++
	return s.says[min(s.calls-1, len(s.says)-1)]
}

// The reader and whoever answers may be in any order. There is one reply in each.
func TestReadAgainstRelease(t *testing.T) {
	const slot, u = 3, 8
	for _, tc := range []struct {
		name    string
		says    []State
		release int // before which look Release runs, -1 for after all
		want    unix.Errno
		served  uint64
	}{
		{"asleep, then answered", []State{Waiting, Waiting}, -1, 0, 1},
		{"answered before the first look", []State{Answered}, 0, 0, 1},
		{"answered between the look and the note", []State{Waiting, Answered}, 0, 0, 1},
		{"answered and released between note and look", []State{Waiting, Answered}, 1, 0, 1},
		{"answered, released late", []State{Waiting, Answered}, -1, 0, 1},
		{"gone between the looks", []State{Waiting, Foreign}, -1, 0, 1},
		{"foreign", []State{Foreign}, -1, unix.ENODATA, 0},
	} {
		for _, detached := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, detached %t", tc.name, detached), func(t *testing.T) {
				s := &script{says: tc.says}
				g, kernel := offline(t, s)
				s.before = func(call int) {
					if call == tc.release {
						g.Release(slot)
					}
				}
				unix.Write(kernel, getxattr(u, 77, slot+1, Attribute))
				if detached && g.heart().serveDetached(g, maxServe) != (tc.served > 0) {
					t.Errorf("served detached: %t", tc.served == 0)
				}
				g.heart().serve(g, maxServe)
				if tc.release < 0 {
					g.Release(slot)
				}
				g.Release(slot)
				if got := replies(t, kernel); len(got) != 1 || got[u] != tc.want {
					t.Errorf("replies %v, want one with %v", got, tc.want)
				}
				if g.Served() != tc.served || g.asleep(slot) {
					t.Errorf("served %d, asleep %t, want %d and nobody", g.Served(), g.asleep(slot), tc.served)
				}
			})
		}
	}
}

// Detached, sleepers are served up to the first request of another kind, and that one is there for serve, once.
func TestServeDetached(t *testing.T) {
	g, kernel := offline(t, anyone{})
	d := g.heart()
	for i, other := range [][]byte{
		getxattr(100, 77, 9, "user.other"),
		getxattr(100, 77, abi.Slots+1, Attribute),
		getxattr(100, 77, 0, Attribute),
		request(opGetattr, 100, 77, nil),
		request(opGetxattr, 100, 77, words(4, 0)),
		request(opInterrupt, 100|interruptBit, 0, words(100, 0)), // of nobody yet
		request(opInterrupt, 100|interruptBit, 0, words(8)),
	} {
		for _, m := range [][]byte{getxattr(8, 77, 1, Attribute), getxattr(9, 77, 2, Attribute), other, getxattr(10, 77, 3, Attribute)} {
			unix.Write(kernel, m)
		}
		if !d.serveDetached(g, 1) || !g.asleep(0) || g.asleep(1) {
			t.Errorf("request %d: not the first sleeper alone was served", i)
		}
		for range 2 { // nothing is read over it
			if d.serveDetached(g, maxServe) || !g.asleep(1) || g.asleep(2) || len(replies(t, kernel)) != 0 {
				t.Errorf("request %d: it was not left", i)
			}
		}
		if n := d.serve(g, maxServe); n != 1 || !g.asleep(2) {
			t.Errorf("request %d: %d sleepers were served behind it, want 1", i, n)
		}
		if got := replies(t, kernel); len(got)+g.sleepers.n != 1 {
			t.Errorf("request %d: replies %v, %d interrupts kept, want one", i, got, g.sleepers.n)
		}
		g.sleepers.n = 0
		if !d.serveDetached(g, maxServe) || d.serve(g, maxServe) != 0 || len(replies(t, kernel)) != 0 {
			t.Errorf("request %d: there is something left", i)
		}
		for slot := range 3 {
			g.Release(slot)
		}
		if got := replies(t, kernel); len(got) != 3 {
			t.Errorf("request %d: %d sleepers were woken, want 3", i, len(got))
		}
	}
	for _, m := range [][]byte{getxattr(8, 77, 1, Attribute), request(opInterrupt, 8|interruptBit, 0, words(8, 0)), getxattr(9, 77, 2, Attribute)} {
		unix.Write(kernel, m)
	}
	if !d.serveDetached(g, maxServe) || g.sleepers.interrupted[0].Load() != 8 || !g.asleep(1) {
		t.Error("the interrupt of a sleeper was not noted detached, and served past")
	}
	unix.Shutdown(kernel, unix.SHUT_RDWR)
	if d.serveDetached(g, maxServe) {
		t.Error("the end of the connection is left to nobody")
	}
	if d.serve(g, maxServe); !g.lost.Load() {
		t.Error("serve did not find the end of the connection")
	}
}

// An interrupt may overtake the note of the request that it is for.
func TestInterruptBeforeNote(t *testing.T) {
	const slot, u = 3, 8
	g, kernel := offline(t, anyone{})
	unix.Write(kernel, request(opInterrupt, u|interruptBit, 0, words(u, 0)))
	g.Tick()
	if g.sleepers.n != 1 {
		t.Fatalf("%d interrupts are kept, want one", g.sleepers.n)
	}
	unix.Write(kernel, getxattr(u, 77, slot+1, Attribute))
	g.Tick()
	if got := replies(t, kernel); len(got) != 1 || got[u] != unix.ENODATA || g.sleepers.n != 0 {
		t.Errorf("replies %v, %d interrupts kept, want ENODATA and none", got, g.sleepers.n)
	}
	// One for a request that was replied to is dropped in the end.
	unix.Write(kernel, request(opInterrupt, u|interruptBit, 0, words(u, 0)))
	g.Tick()
	g.sleepers.orphans[0].since -= int64(MaxSleep)
	g.Tick()
	if g.sleepers.n != 0 {
		t.Errorf("%d interrupts are kept for ever", g.sleepers.n)
	}
	for range 2 * maxOrphans {
		g.sleepers.interrupt(u, g.now.Load())
	}
	if g.sleepers.n != maxOrphans {
		t.Errorf("%d interrupts are kept, want %d at most", g.sleepers.n, maxOrphans)
	}
}

// A slot that is used again does not inherit the interrupt or the age of the sleep
// before.
func TestSlotReuse(t *testing.T) {
	const slot = 3
	g, kernel := offline(t, anyone{})
	unix.Write(kernel, getxattr(8, 77, slot+1, Attribute))
	g.Tick()
	unix.Write(kernel, request(opInterrupt, 9, 0, words(8, 0)))
	g.heart().serve(g, maxServe)
	g.sleepers.since[slot].Add(-2 * int64(MaxSleep))
	g.Release(slot)
	unix.Write(kernel, getxattr(10, 78, slot+1, Attribute))
	g.Tick()
	g.Tick()
	if got := replies(t, kernel); len(got) != 1 || got[8] != 0 || !g.asleep(slot) {
		t.Errorf("replies %v, asleep %t, want the first answered and the second asleep", got, g.asleep(slot))
	}
}

// A second request for a slot, which no kernel of ours makes, leaves nobody asleep
// for ever.
func TestDoubled(t *testing.T) {
	g, kernel := offline(t, anyone{})
	for u := range uint64(3) {
		unix.Write(kernel, getxattr(2+2*u, 77, 4, Attribute))
	}
	g.Tick()
	g.Release(3)
	if got := replies(t, kernel); len(got) != 3 || got[2] != unix.ENODATA || got[4] != unix.ENODATA || got[6] != 0 || g.Stats().Doubled != 2 {
		t.Errorf("replies %v, counters %+v", got, g.Stats())
	}
}

func TestReleaseOutOfRange(t *testing.T) {
	g, kernel := offline(t, anyone{})
	for _, slot := range []int{-1, abi.Slots, 1 << 40, 0} {
		g.Release(slot)
	}
	if got := replies(t, kernel); len(got) != 0 {
		t.Errorf("replies %v, want none", got)
	}
}

// A sleep and its end allocate nothing.
func TestAllocations(t *testing.T) {
	g, kernel := offline(t, anyone{})
	ask := getxattr(8, 77, 4, Attribute)
	b := make([]byte, 64)
	if n := testing.AllocsPerRun(1000, func() {
		unix.Write(kernel, ask)
		g.heart().serve(g, 1)
		g.Release(3)
		unix.Read(kernel, b)
		g.Tick()
	}); n != 0 {
		t.Errorf("%v allocations for a sleep, want none", n)
	}
}

// A reply whose request has gone is counted, and harms nobody.
func TestLateReply(t *testing.T) {
	g, _ := open(t, 1)
	g.reply(g.heart(), 0, 1<<40)
	if got := g.Stats().Late; got != 1 {
		t.Errorf("%d late replies, want 1", got)
	}
	if g.lost.Load() {
		t.Error("the gate has gone")
	}
}

// As many sleeps as there are slots, all at once, and no worker but the heart.
func TestAllSlotsAsleep(t *testing.T) {
	g, q, s := opened(t)
	fallAsleep(t, g, s, order{Count: abi.Slots})
	beat(t, g)
	for slot := range abi.Slots {
		q.answer(slot)
		g.Release(slot)
	}
	if o := s.wait(); o.Errno != 0 {
		t.Errorf("answered with %v", o.Errno)
	}
}

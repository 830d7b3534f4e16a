// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// patience ends a test that would hang.
const patience = 20 * time.Second

// stubParker records what a source does with its parker.
type stubParker struct {
	wait  func(time.Duration) // nil returns at once
	waits int
	wakes atomic.Int32
}

func (p *stubParker) Wait(d time.Duration) {
	p.waits++
	if p.wait != nil {
		p.wait(d)
	}
}

func (p *stubParker) Wake() { p.wakes.Add(1) }

// mapped returns fresh zeroed memory until the test ends.
func mapped(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatalf("mapping %d bytes: %v", n, err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(b); err != nil {
			t.Errorf("unmapping: %v", err)
		}
	})
	return b
}

// newRing returns a ring that nobody asks but the test, step by step.
func newRing(t testing.TB, workers int) *ring.Ring {
	t.Helper()
	var parkers []ring.Parker
	var cpus []int
	for range workers {
		parkers, cpus = append(parkers, &stubParker{}), append(cpus, -1)
	}
	r, err := ring.New(mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes), parkers, cpus)
	if err != nil {
		t.Fatalf("making the ring: %v", err)
	}
	return r
}

// word returns the word of slot i.
func word(r *ring.Ring, i int) abi.Word { return abi.Word(atomic.LoadUint64(&r.Slot(i).Word)) }

// set makes w the word of slot i.
func set(r *ring.Ring, i int, w abi.Word) { atomic.StoreUint64(&r.Slot(i).Word, uint64(w)) }

// flag sets the posted bit of slot i.
func flag(r *ring.Ring, i int) { atomic.OrUint64(&r.Header().Posted[i/64], 1<<(i%64)) }

// flagged reports whether any posted bit is set.
func flagged(r *ring.Ring) bool {
	for i := range r.Header().Posted {
		if atomic.LoadUint64(&r.Header().Posted[i]) != 0 {
			return true
		}
	}
	return false
}

// post asks in slot i, as the kernel side does, without waiting.
func post(r *ring.Ring, i int, gen uint32, f ring.Facts, path string) {
	slot := r.Slot(i)
	set(r, i, abi.MakeWord(gen, abi.Filling, 0))
	f.PathLen = uint32(len(path))
	ring.StoreFacts(&slot.Facts, &f)
	ring.StoreBytes(&slot.Path, []byte(path))
	set(r, i, abi.MakeWord(gen, abi.Posted, 0))
	flag(r, i)
}

// abandon gives the question in slot i up. False when it was answered before.
func abandon(r *ring.Ring, i int, gen uint32) bool {
	to := uint64(abi.MakeWord(gen, abi.Abandoned, 0))
	at := &r.Slot(i).Word
	return atomic.CompareAndSwapUint64(at, uint64(abi.MakeWord(gen, abi.Posted, 0)), to) ||
		atomic.CompareAndSwapUint64(at, uint64(abi.MakeWord(gen, abi.Taken, 0)), to)
}

// take requires that the source finds a question in slot want.
func take(t *testing.T, s *ring.Source, q *abi.Request, want int) {
	t.Helper()
	if !s.Next(q) {
		t.Fatalf("nothing is waiting, want the question in slot %d", want)
	}
	if q.Ticket != uint64(want) {
		t.Fatalf("got the question in slot %d, want slot %d", q.Ticket, want)
	}
}

// checkWord requires the word of slot i.
func checkWord(t *testing.T, r *ring.Ring, i int, want abi.Word) {
	t.Helper()
	if got := word(r, i); got != want {
		t.Errorf("slot %d: word %#x (%s, errno %d), want %#x (%s, errno %d)",
			i, uint64(got), got.State(), got.Errno(), uint64(want), want.State(), want.Errno())
	}
}

// until waits for a condition that another goroutine brings about.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// within requires that f returns.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not within %v", what, patience)
	}
}

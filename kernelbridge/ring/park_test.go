// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

func TestHotBits(t *testing.T) {
	var r *ring.Ring
	hot := func() uint64 { return atomic.LoadUint64(&r.Header().Hot) }
	var seen uint64
	p := make([]ring.Parker, abi.MaxWorkers)
	for i := range p {
		p[i] = &stubParker{wait: func(time.Duration) { seen = hot() }}
	}
	r, err := ring.New(mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes), p, make([]int, len(p)))
	if err != nil {
		t.Fatal(err)
	}
	if got := hot(); got != 0 {
		t.Errorf("hot workers %#x before any works, want none", got)
	}
	var q abi.Request
	want := uint64(0)
	for i, s := range r.Sources() {
		s.Next(&q)
		want |= 1 << i
		if got := hot(); got != want {
			t.Fatalf("worker %d polls: hot %#x, want %#x", i, got, want)
		}
	}
	for i, s := range r.Sources() {
		s.Park(time.Second)
		want &^= 1 << i
		if got := hot(); got != want || seen != want {
			t.Fatalf("worker %d parked: hot %#x, %#x while it slept, want %#x", i, got, seen, want)
		}
	}
	r.Sources()[63].Next(&q)
	if got := hot(); got != 1<<63 {
		t.Errorf("worker 63 polls again: hot %#x, want its bit", got)
	}
}

func TestParkPasses(t *testing.T) {
	p := &stubParker{}
	var bound time.Duration
	p.wait = func(d time.Duration) { bound = d }
	r, err := ring.New(mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes), []ring.Parker{p}, []int{-1})
	if err != nil {
		t.Fatal(err)
	}
	s := r.Sources()[0]
	s.Park(3 * time.Second)
	if p.waits != 1 || bound != 3*time.Second {
		t.Errorf("waited %d times, for %v, want once for 3s", p.waits, bound)
	}
	s.Wake()
	if got := p.wakes.Load(); got != 1 {
		t.Errorf("woken %d times, want once", got)
	}
	// Whatever is posted when the worker is on its way keeps it from sleeping.
	var q abi.Request
	for _, slot := range []int{0, 63, 64, abi.Slots - 1} {
		post(r, slot, 1, ring.Facts{}, "/")
		if s.Park(time.Hour); p.waits != 1 {
			t.Fatalf("slept with a question in slot %d", slot)
		}
		take(t, s, &q, slot)
	}
}

// newParked returns a ring with real parkers, and a function that asks like the
// kernel side and says whether it had to kick.
func newParked(t *testing.T, workers int, between func()) (*ring.Ring, func(gen uint32) bool) {
	t.Helper()
	kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(kick) })
	var r *ring.Ring
	var parkers []ring.Parker
	var cpus []int
	for range workers {
		p, err := ring.NewFDParker(kick, ring.EventfdKick(kick))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { p.Close() })
		parkers, cpus = append(parkers, delayed{p, func() {
			if between != nil {
				between()
			}
		}}), append(cpus, -1)
	}
	r, err = ring.New(mapped(t, ring.HeaderBytes), mapped(t, ring.SlotsBytes), parkers, cpus)
	if err != nil {
		t.Fatal(err)
	}
	return r, func(gen uint32) bool {
		post(r, 3, gen, ring.Facts{}, "/")
		if atomic.LoadUint64(&r.Header().Hot) != 0 {
			return false
		}
		one := [8]byte{1}
		unix.Write(kick, one[:])
		return true
	}
}

// delayed does something before each Wait.
type delayed struct {
	*ring.FDParker
	before func()
}

func (d delayed) Wait(bound time.Duration) { d.before(); d.FDParker.Wait(bound) }

// A question between the worker's last look and its sleep: the requester sees no
// hot worker and kicks, and the kick ends a sleep that has not begun.
func TestParkBetweenLookAndSleep(t *testing.T) {
	var ask func(gen uint32) bool
	kicked := false
	r, ask := newParked(t, 1, func() { kicked = ask(7) })
	s := r.Sources()[0]
	var q abi.Request
	s.Next(&q)
	start := time.Now()
	within(t, "the worker's sleep", func() { s.Park(patience / 2) })
	if d := time.Since(start); !kicked || d > patience/4 {
		t.Errorf("slept for %v, kicked: %t; want to be woken at once by a kick", d, kicked)
	}
	take(t, s, &q, 3)
}

// No wake-up is lost in many rounds of a worker that sleeps at once and a requester
// that asks at any moment of it. A lost one would sleep for its bound.
func TestParkLosesNoWakeup(t *testing.T) {
	const rounds = 3000
	r, ask := newParked(t, 2, nil)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var slept atomic.Int32
	for _, s := range r.Sources() {
		wg.Go(func() {
			var q abi.Request
			for !stop.Load() {
				if s.Next(&q) {
					s.Reply(&q, abi.Verdict{})
					continue
				}
				start := time.Now()
				s.Park(patience)
				if time.Since(start) >= patience {
					slept.Add(1)
				}
			}
		})
	}
	defer func() {
		stop.Store(true)
		for _, s := range r.Sources() {
			s.Wake()
		}
		within(t, "the workers' end", wg.Wait)
	}()
	kicks := 0
	for gen := range uint32(rounds) {
		if ask(gen) {
			kicks++
		}
		until(t, "an answer", func() bool { return word(r, 3) == abi.MakeWord(gen, abi.Done, 0) })
	}
	if slept.Load() != 0 {
		t.Errorf("%d sleeps were not ended", slept.Load())
	}
	if kicks == 0 {
		t.Error("nobody ever slept: this run shows nothing")
	}
	t.Logf("%d kicks in %d rounds", kicks, rounds)
}

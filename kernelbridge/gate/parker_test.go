// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

var _ ring.Parker = (*Parker)(nil)

// drain is a Kick for workers that are not detached.
type drain func()

func (d drain) DrainKicks() { d() }

// newParker returns the parker of a gate with a kick, and how often it drained.
func newParker(t *testing.T) (g *Gate, p *Parker, kick func(), drained *int) {
	t.Helper()
	g, _ = open(t, 1)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	drained = new(int)
	p, err = g.Parker(0, fd, drain(func() {
		var b [8]byte
		unix.Read(fd, b[:])
		*drained++
	}))
	if err != nil {
		t.Fatal(err)
	}
	return g, p, func() {
		one := [8]byte{1}
		unix.Write(fd, one[:])
	}, drained
}

// sleeps requires that a short wait runs to its end. EINTR may end one early, so
// one of several is enough.
func sleeps(t *testing.T, p *Parker) {
	t.Helper()
	const d = 5 * time.Millisecond
	for range 100 {
		start := time.Now()
		if p.Wait(d); time.Since(start) >= d {
			return
		}
	}
	t.Error("no wait lasts: an old wake-up stays")
}

func TestParkerWakes(t *testing.T) {
	for _, tc := range []struct {
		name   string
		before func(p *Parker, kick func())
		drains int
	}{
		{"wake before", func(p *Parker, _ func()) { p.Wake() }, 0},
		{"kick before", func(_ *Parker, kick func()) { kick() }, 1},
		{"both, many times", func(p *Parker, kick func()) {
			for range 100 {
				p.Wake()
				kick()
			}
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, p, kick, drained := newParker(t)
			tc.before(p, kick)
			start := time.Now()
			within(t, "the wait", func() { p.Wait(patience / 2) })
			if d := time.Since(start); d > patience/4 || *drained != tc.drains {
				t.Errorf("waited %v, drained %d times, want no wait and %d", d, *drained, tc.drains)
			}
			sleeps(t, p) // the wake-ups are used up
		})
	}
}

func TestParkerBounds(t *testing.T) {
	_, p, _, _ := newParker(t)
	for _, d := range []time.Duration{-1, 0, 1, time.Microsecond} {
		within(t, d.String(), func() { p.Wait(d) })
	}
	sleeps(t, p)
}

// A late Wake must not write into whatever has the number of the closed descriptor.
func TestParkerClosed(t *testing.T) {
	g, p, _, _ := newParker(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				p.Wake()
			}
		})
	}
	for range 3 {
		if err := g.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	wg.Wait()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK) // takes the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p.Wake()
	var b [8]byte
	if n, err := unix.Read(fd, b[:]); err != unix.EAGAIN {
		t.Errorf("the new descriptor has %d bytes, %v, want nothing to read", n, err)
	}
	if _, err := g.Parker(0, -1, nil); err == nil {
		t.Error("a closed gate gives out parkers")
	}
}

// The heart may read the request that woke a parked worker. The worker wakes up all
// the same, for it has to answer the question.
func TestTickWakesWorkers(t *testing.T) {
	g, q, s := opened(t)
	p, err := g.Parker(0, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	fallAsleep(t, g, s, order{First: 9}) // by ticks alone
	start := time.Now()
	within(t, "the wait", func() { p.Wait(patience / 2) })
	if d := time.Since(start); d > patience/4 {
		t.Errorf("waited %v after the heart had read the request", d)
	}
	q.answer(9)
	g.Release(9)
	if o := s.wait(); o.Errno != 0 {
		t.Error(o.Errno)
	}
}

// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// drain is a Kick for workers that are not detached.
type drain func()

func (d drain) DrainKicks() { d() }

// newParker returns a parker, its kick, and how often it drained.
func newParker(t *testing.T) (p *ring.FDParker, kick func(), drained *int) {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	drained = new(int)
	p, err = ring.NewFDParker(fd, drain(func() {
		var b [8]byte
		unix.Read(fd, b[:])
		*drained++
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(); unix.Close(fd) })
	return p, func() {
		one := [8]byte{1}
		unix.Write(fd, one[:])
	}, drained
}

// sleeps requires that a short wait runs to its end. EINTR may end one early, so
// one of several is enough.
func sleeps(t *testing.T, p *ring.FDParker) {
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
		before func(p *ring.FDParker, kick func())
		drains int
	}{
		{"wake before", func(p *ring.FDParker, _ func()) { p.Wake() }, 0},
		{"kick before", func(_ *ring.FDParker, kick func()) { kick() }, 1},
		{"both, many times", func(p *ring.FDParker, kick func()) {
			for range 100 {
				p.Wake()
				kick()
			}
		}, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, kick, drained := newParker(t)
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

func TestParkerWakesSleeper(t *testing.T) {
	p, _, _ := newParker(t)
	for range 100 {
		asleep := make(chan struct{})
		go func() { close(asleep); p.Wake() }()
		<-asleep
		start := time.Now()
		within(t, "the wait", func() { p.Wait(patience / 2) })
		if d := time.Since(start); d > patience/4 {
			t.Fatalf("woken after %v", d)
		}
	}
}

func TestParkerBounds(t *testing.T) {
	p, _, _ := newParker(t)
	for _, d := range []time.Duration{0, 1, time.Microsecond} {
		within(t, d.String(), func() { p.Wait(d) })
	}
	sleeps(t, p)
}

// A late Wake must not write into whatever has the number of the closed descriptor.
func TestParkerClosed(t *testing.T) {
	p, _, _ := newParker(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				p.Wake()
			}
		})
	}
	for range 3 {
		if err := p.Close(); err != nil {
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
}

// SPDX-License-Identifier: Apache-2.0

package content

import (
	"sync"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// later returns a clock that stands, and what moves it on.
func later(p *Pool) (now func() time.Time, pass func(time.Duration)) {
	var mu sync.Mutex
	at := p.now()
	now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return at
	}
	return now, func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(d)
	}
}

// What was scanned before waits for the edition at most, and not behind scans; all that wait have
// it asked for once. A scanner that does not tell it is not asked again for as long.
func TestEditionIsAskedForBesideTheLane(t *testing.T) {
	name, infected := write(t, []byte("x")), write(t, []byte(marker))
	needLasting(t, name)
	release := make(chan struct{})
	s := &scanner{edition: "1"}
	p := pool(t, Options{Scan: Scanning{Scanner: s, AtOnce: 1}})
	now, pass := later(p)
	p.now = now
	scanOf(t, p, named(t, name))
	scanOf(t, p, named(t, infected))
	s.set(func() { s.before = func() error { <-release; return nil } })
	stuck := submitScan(t, p, named(t, write(t, []byte("z"))))
	until(t, "the scanner is not busy", func() bool { return s.scans.Load() == 3 })
	behind := submitScan(t, p, named(t, write(t, []byte("w"))))
	for _, down := range []bool{false, true} {
		pass(editionEvery)
		told := make(chan struct{})
		s.set(func() { s.down, s.tell = down, func() { <-told } })
		asks := s.asks.Load()
		var all []<-chan abi.Content
		for range 5 {
			all = append(all, submitScan(t, p, named(t, name)), submitScan(t, p, named(t, infected)))
		}
		until(t, "they do not wait for the edition", func() bool {
			p.editions.mu.Lock()
			defer p.editions.mu.Unlock()
			return len(p.editions.waiting) == len(all)
		})
		close(told)
		for i, c := range all {
			if got, want := <-c, []abi.Scan{abi.ScanClean, abi.ScanInfected}[i%2]; got.Scan != want {
				t.Errorf("down %t, answer %d: %s, want %s", down, i, got.Scan, want)
			}
		}
		scanOf(t, p, named(t, name))
		if got := s.asks.Load() - asks; got != 1 {
			t.Errorf("down %t: asked for the edition %d times, want once", down, got)
		}
	}
	pass(editionEvery)
	s.set(func() { s.down, s.tell, s.edition = false, nil, "2" })
	again := submitScan(t, p, named(t, infected))
	until(t, "it is not asked for the edition", func() bool {
		edition, holds := p.editions.last(now())
		return edition == "2" && holds
	})
	if s.scans.Load() != 3 {
		t.Errorf("%d scans, want 3", s.scans.Load())
	}
	close(release)
	for _, c := range []<-chan abi.Content{stuck, behind, again} {
		if got := <-c; got.Known&abi.FieldScan == 0 {
			t.Errorf("got %+v", got)
		}
	}
	if s.scans.Load() != 5 {
		t.Errorf("%d scans, want 5: one for the new edition", s.scans.Load())
	}
}

// While one waits for the edition of a silent scanner others do not, and go on to the scanner,
// which has a way of its own to be silent. What is too large needs no edition.
func TestSilentEdition(t *testing.T) {
	told := make(chan struct{})
	s := &scanner{edition: "1", tell: func() { <-told }}
	p := pool(t, Options{Scan: Scanning{Scanner: s, MaxBytes: 4, AtOnce: 2}})
	if got := scanOf(t, p, named(t, write(t, []byte("large")))); got != (abi.Content{}) || s.asks.Load() != 0 {
		t.Errorf("a large file: got %+v, asked for the edition %d times", got, s.asks.Load())
	}
	first := submitScan(t, p, named(t, write(t, []byte("x"))))
	until(t, "nobody asks", func() bool { return s.asks.Load() == 1 })
	if got := scanOf(t, p, named(t, write(t, []byte("y")))); got.Scan != abi.ScanClean {
		t.Errorf("beside one that asks: %+v", got)
	}
	close(told)
	if got := <-first; got.Scan != abi.ScanClean || s.asks.Load() != 1 {
		t.Errorf("the one that asks: %+v, asked %d times", got, s.asks.Load())
	}
}

// A panic of the scanner is that answer's loss.
func TestEditionPanics(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	s := &scanner{edition: "1"}
	p := pool(t, Options{Scan: Scanning{Scanner: s}})
	now, pass := later(p)
	p.now = now
	scanOf(t, p, named(t, name))
	pass(editionEvery)
	s.set(func() { s.tell = func() { panic("a bug") } })
	if got := scanOf(t, p, named(t, name)); got.Scan != abi.ScanClean || s.scans.Load() != 1 || s.asks.Load() != 2 {
		t.Errorf("got %+v after %d scans, asked %d times", got, s.scans.Load(), s.asks.Load())
	}
}

// Nothing is known to hold of what was scanned while nobody told the edition.
func TestNoEdition(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	s := &scanner{down: true}
	p := pool(t, Options{Scan: Scanning{Scanner: s}})
	for n := range int64(2) {
		if got := scanOf(t, p, named(t, name)); got.Scan != abi.ScanClean || s.scans.Load() != n+1 {
			t.Errorf("got %+v after %d scans, want %d", got, s.scans.Load(), n+1)
		}
	}
}

// Whoever wants something else of a file waits for no edition, and is not told what hangs on it.
func TestDigestNeedsNoEdition(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	s := &scanner{edition: "1"}
	p := pool(t, Options{Scan: Scanning{Scanner: s}})
	now, pass := later(p)
	p.now = now
	scanOf(t, p, named(t, name))
	for _, want := range []abi.Fields{abi.FieldScan, 0} {
		c := make(chan abi.Content, 2)
		if !p.Submit(named(t, name), abi.FieldDigest, time.Hour, func(got abi.Content) { c <- got }) {
			t.Fatal("there is no room")
		}
		if got := <-c; got.Known&abi.FieldScan != want || got.Known&abi.FieldDigest == 0 || s.asks.Load() != 1 {
			t.Errorf("%v known after it was asked for %d times, want a digest, %v, and once", got.Known.Names(), s.asks.Load(), want.Names())
		}
		pass(editionEvery)
	}
}

// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// marker is what the scanner of these tests finds.
const marker = "MARKER"

// scanner finds marker, and does what the test says before.
type scanner struct {
	scans, asks atomic.Int64 // asks for the edition

	mu      sync.Mutex
	before  func() error
	tell    func() // before the edition
	edition string
	down    bool
}

func (s *scanner) Scan(ctx context.Context, fd int) (string, error) {
	s.scans.Add(1)
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(); err != nil {
			return "", err
		}
	}
	content, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err == nil && bytes.Contains(content, []byte(marker)) {
		return "found", nil
	}
	return "", err
}

func (s *scanner) Edition(context.Context) (string, error) {
	s.asks.Add(1)
	s.mu.Lock()
	tell := s.tell
	s.mu.Unlock()
	if tell != nil {
		tell()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return "", ErrUnavailable
	}
	return s.edition, nil
}

func (s *scanner) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// scanOf is what becomes of a job that wants a scan.
func scanOf(t testing.TB, p *Pool, o Object) abi.Content {
	t.Helper()
	select {
	case c := <-submitScan(t, p, o):
		return c
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	panic("unreachable")
}

func submitScan(t testing.TB, p *Pool, o Object) <-chan abi.Content {
	t.Helper()
	return submitScanFor(t, p, o, time.Hour)
}

func submitScanFor(t testing.TB, p *Pool, o Object, wait time.Duration) <-chan abi.Content {
	t.Helper()
	c := make(chan abi.Content, 2) // a second answer would be a bug, not a hang
	if !p.Submit(o, abi.FieldScan, wait, func(got abi.Content) { c <- got }) {
		t.Fatal("there is no room")
	}
	return c
}

// A scan tells all that there is to know of the content, of one moment.
func TestScan(t *testing.T) {
	p := pool(t, Options{Scan: Scanning{Scanner: &scanner{}}})
	p.now = time.Now // nothing is remembered
	for text, want := range map[string]abi.Scan{"": abi.ScanClean, "text": abi.ScanClean, "#!" + marker: abi.ScanInfected, strings.Repeat("x", 2*piece) + marker: abi.ScanInfected} {
		name := write(t, []byte(text))
		for what, o := range map[string]Object{"by name": named(t, name), "by descriptor": {File: int(opened(t, name).Fd())}} {
			c := abi.Content{Known: abi.FieldFormat | abi.FieldDigest, Format: abi.FormatOf([]byte(text)), Digest: sha256.Sum256([]byte(text))}
			if c.SetScan(""); want == abi.ScanInfected {
				c.SetScan("found")
			}
			if got := scanOf(t, p, o); got != c {
				t.Errorf("%.10q %s: got %+v, want %+v", text, what, got, c)
			}
		}
	}
	s := p.Stats()
	if s["scan.done"] != 8 || s["scan.infected"] != 4 || s["scan.within_10s"] != 8 || s["hashed"] != 0 {
		t.Errorf("%v, want 8 scans of which 4 have found something", s)
	}
}

// What could not be scanned, or not in full, is not clean; each has a cause.
func TestNotScanned(t *testing.T) {
	var log bytes.Buffer
	s := &scanner{}
	p := pool(t, Options{Scan: Scanning{Scanner: s, MaxBytes: 4}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	small, big := write(t, []byte("text")), write(t, []byte("texts"))
	for _, tc := range []struct {
		name  string
		o     Object
		err   error
		cause cause
	}{
		{"a large file", named(t, big), nil, causeScanTooBig},
		{"an error of the scanner", named(t, small), errors.New("no memory\n"), causeScanFailed},
		{"nobody there", named(t, small), fmt.Errorf("%w: %w", ErrUnavailable, os.ErrNotExist), causeScannerGone},
		{"a directory", Object{File: int(opened(t, t.TempDir()).Fd())}, nil, causeNotRegular},
		{"a descriptor that nothing can be read by", Object{File: path(t, small)}, nil, causeUnreadable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.set(func() { s.before = func() error { return tc.err } })
			before := p.counters.unknown[tc.cause].Load()
			if got := scanOf(t, p, tc.o); got != (abi.Content{}) {
				t.Errorf("got %+v, want nothing", got)
			}
			if got := p.counters.unknown[tc.cause].Load() - before; got != 1 {
				t.Errorf("%d counted as %s, want 1: %v", got, causeNames[tc.cause], p.Stats())
			}
		})
	}
	if n := p.counters.scans.done.Load(); n != 0 {
		t.Errorf("%d scans counted, want none", n)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, `no memory\n`) {
		t.Errorf("the log does not tell of the error once: %s", text)
	}
	without := pool(t, Options{})
	if got := scanOf(t, without, named(t, small)); got != (abi.Content{}) || without.counters.unknown[causeNoScanner].Load() != 1 {
		t.Errorf("without a scanner: %+v, %v", got, without.Stats())
	}
}

// The files of procfs are neither read nor scanned.
func TestScanOfGenerated(t *testing.T) {
	s := &scanner{}
	p := pool(t, Options{Scan: Scanning{Scanner: s}})
	if got := scanOf(t, p, named(t, "/proc/version")); got.Known != abi.FieldScan || got.Scan != abi.ScanClean || s.scans.Load() != 0 {
		t.Errorf("got %+v after %d scans, want clean after none", got, s.scans.Load())
	}
}

// A file that changes while it is scanned is scanned once more, and then not known.
func TestChangedWhileScanned(t *testing.T) {
	for changes, want := range []abi.Fields{abi.FieldScan, abi.FieldScan, 0} {
		name := write(t, []byte("x"))
		s := &scanner{}
		s.before = func() error {
			if s.scans.Load() <= int64(changes) {
				grow(t, name, 1)
			}
			return nil
		}
		p := pool(t, Options{Scan: Scanning{Scanner: s}})
		got := scanOf(t, p, named(t, name))
		if got.Known&abi.FieldScan != want || s.scans.Load() != int64(min(changes+1, 2)) {
			t.Errorf("%d changes: %v known after %d scans", changes, got.Known.Names(), s.scans.Load())
		}
		if content, _ := os.ReadFile(name); want != 0 && got.Digest != sha256.Sum256(content) {
			t.Errorf("%d changes: the digest is not that of the content", changes)
		}
		if n := len(p.cache.at); n > 1 {
			t.Errorf("%d changes: %d files remembered", changes, n)
		}
		if n := p.counters.scans.done.Load(); n != uint64(want/abi.FieldScan) {
			t.Errorf("%d changes: %d scans counted", changes, n)
		}
	}
}

// Who comes when the scanner has new signatures does not go by a scan that was begun before.
func TestScanUnderWayIsOfItsEdition(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	release := make(chan struct{})
	s := &scanner{edition: "1", before: func() error { <-release; return nil }}
	p := pool(t, Options{Scan: Scanning{Scanner: s, AtOnce: 3}})
	now, pass := later(p)
	p.now = now
	all := []<-chan abi.Content{submitScan(t, p, named(t, name))}
	until(t, "the scanner is not busy", func() bool { return s.scans.Load() == 1 })
	s.set(func() { s.edition = "2" })
	pass(editionEvery)
	all = append(all, submitScan(t, p, named(t, name)))
	until(t, "it is not scanned again", func() bool { return s.scans.Load() == 2 })
	all = append(all, submitScan(t, p, named(t, name)))
	until(t, "nobody joins", func() bool { return p.counters.joined.Load() == 1 })
	close(release)
	for i, c := range all {
		if got := <-c; got.Scan != abi.ScanClean {
			t.Errorf("answer %d: %+v", i, got)
		}
	}
}

// A result is remembered as long as the scanner would say it again, as far as that is known.
func TestScanIsRemembered(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	s := &scanner{edition: "1"}
	p := pool(t, Options{Scan: Scanning{Scanner: s, MaxAge: time.Hour}})
	now := p.now()
	p.now = func() time.Time { return now }
	look := func(step string, scans int64, want abi.Scan) {
		t.Helper()
		if got := scanOf(t, p, named(t, name)); got.Scan != want {
			t.Errorf("%s: %s, want %s", step, got.Scan, want)
		}
		if s.scans.Load() != scans {
			t.Errorf("%s: %d scans, want %d", step, s.scans.Load(), scans)
		}
	}
	look("first", 1, abi.ScanClean)
	look("again", 1, abi.ScanClean)
	now = now.Add(2 * editionEvery)
	look("asked for the edition again", 1, abi.ScanClean)
	s.set(func() { s.edition = "2" })
	look("a new edition, a moment ago", 1, abi.ScanClean)
	now = now.Add(editionEvery)
	look("a new edition", 2, abi.ScanClean)
	look("of which there is a result", 2, abi.ScanClean)
	s.set(func() { s.down = true })
	now = now.Add(30 * time.Minute)
	look("nobody tells the edition", 2, abi.ScanClean)
	now = now.Add(30*time.Minute + 1)
	s.set(func() { s.down = false })
	look("too old", 3, abi.ScanClean)
	if err := os.WriteFile(name, []byte(marker), 0o700); err != nil {
		t.Fatal(err)
	}
	look("changed", 4, abi.ScanInfected)
	look("changed, again", 4, abi.ScanInfected)
	if got := digestOf(t, p, named(t, name)); !got.known || p.counters.hashed.Load() != 0 {
		t.Errorf("the digest is not that of the scan: %v", p.Stats())
	}
	p.now = time.Now
	if err := os.Chmod(name, 0o600); err != nil { // changed just now
		t.Fatal(err)
	}
	look("too new", 5, abi.ScanInfected)
	look("too new, again", 6, abi.ScanInfected)
}

// What was hashed is scanned when that is wanted, and the digest is remembered all the same.
func TestScanAfterDigest(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	s := &scanner{}
	p := pool(t, Options{Scan: Scanning{Scanner: s}})
	if got := digestOf(t, p, named(t, name)); !got.known || s.scans.Load() != 0 {
		t.Fatalf("known %t after %d scans", got.known, s.scans.Load())
	}
	if got := scanOf(t, p, named(t, name)); got.Scan != abi.ScanClean || got.Known&abi.FieldDigest == 0 || s.scans.Load() != 1 {
		t.Errorf("got %+v after %d scans", got, s.scans.Load())
	}
}

// Who wants a file scanned that is being scanned waits for that; who wants a digest, or one that
// was scanned before, does not, even if the scanner takes all who scan.
func TestLaneOfScans(t *testing.T) {
	name, other := write(t, []byte("x")), write(t, []byte("y"))
	needLasting(t, name)
	release := make(chan struct{})
	s := &scanner{edition: "1"}
	p := pool(t, Options{Scan: Scanning{Scanner: s, AtOnce: 2}})
	scanOf(t, p, named(t, other))
	s.set(func() { s.before = func() error { <-release; return nil } })
	var all []<-chan abi.Content
	for range 5 {
		all = append(all, submitScan(t, p, named(t, name)))
	}
	until(t, "nobody waits for the first", func() bool { return p.counters.joined.Load() == 4 })
	stuck := submitScan(t, p, named(t, write(t, []byte("z"))))
	waits := submitScan(t, p, named(t, write(t, []byte("w"))))
	until(t, "the scanner is not busy", func() bool { return s.scans.Load() == 3 })
	if got := scanOf(t, p, named(t, other)); got.Scan != abi.ScanClean {
		t.Errorf("what was scanned before: %+v", got)
	}
	if got := digestOf(t, p, named(t, write(t, []byte("v")))); !got.known {
		t.Error("the digest of another file is not known")
	}
	close(release)
	for i, c := range append(all, stuck, waits) {
		if got := <-c; got.Scan != abi.ScanClean {
			t.Errorf("answer %d: %+v", i, got)
		}
	}
	if s.scans.Load() != 4 {
		t.Errorf("%d scans, want 4: one for the five", s.scans.Load())
	}
}

// What nobody waits for any more is not begun, so it keeps nobody waiting; what was begun is
// finished, and remembered.
func TestLateScans(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	release := make(chan struct{})
	s := &scanner{edition: "1", before: func() error { <-release; return nil }}
	p := pool(t, Options{Scan: Scanning{Scanner: s, AtOnce: 1}})
	now, pass := later(p)
	p.now = now
	begun := submitScanFor(t, p, named(t, name), time.Second)
	until(t, "the scanner is not busy", func() bool { return s.scans.Load() == 1 })
	var late []<-chan abi.Content
	for range 10 {
		late = append(late, submitScanFor(t, p, named(t, write(t, []byte("y"))), time.Second))
	}
	last := submitScanFor(t, p, named(t, write(t, []byte("z"))), time.Minute)
	until(t, "they are not in the lane", func() bool { return len(p.scans) == len(late)+1 })
	pass(2 * time.Second)
	close(release)
	if got := <-begun; got.Scan != abi.ScanClean {
		t.Errorf("what was begun: %+v", got)
	}
	for i, c := range late {
		if got := <-c; got != (abi.Content{}) {
			t.Errorf("late %d: %+v", i, got)
		}
	}
	if got := <-last; got.Scan != abi.ScanClean {
		t.Errorf("what is waited for: %+v", got)
	}
	if got := scanOf(t, p, named(t, name)); got.Scan != abi.ScanClean || s.scans.Load() != 2 || p.counters.unknown[causeLate].Load() != uint64(len(late)) {
		t.Errorf("again: %+v after %d scans, want 2: %v", got, s.scans.Load(), p.Stats())
	}
}

// Close ends scans that are under way, answers all that wait, and no descriptor is left.
func TestCloseWhileScanning(t *testing.T) {
	fds := openFiles(t)
	s := &scanner{}
	p := New(Options{Scan: Scanning{Scanner: s, AtOnce: 2}})
	s.set(func() { s.before = func() error { <-p.stop.Done(); return p.stop.Err() } })
	f, err := os.Open(write(t, []byte("x")))
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	accepted := 0
	for range queued + 10 {
		waiting.Add(1)
		if !p.Submit(Object{File: int(f.Fd())}, abi.FieldScan, time.Minute, func(c abi.Content) {
			if c != (abi.Content{}) {
				t.Errorf("got %+v of a scan that was ended", c)
			}
			waiting.Done()
		}) {
			waiting.Done()
			continue
		}
		accepted++
	}
	until(t, "nobody scans", func() bool { return s.scans.Load() == 2 })
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	waiting.Wait()
	f.Close()
	if got := openFiles(t); got != fds || accepted < queued {
		t.Errorf("%d descriptors are open, %d were; %d accepted", got, fds, accepted)
	}
}

// The lane has so much room and no more.
func TestNoRoomForScans(t *testing.T) {
	p := New(Options{Scan: Scanning{Scanner: &scanner{}}, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err := p.Close(t.Context()); err != nil { // nobody takes anything out
		t.Fatal(err)
	}
	for i := range queued + 1 {
		j := job{Object: Object{File: -1}, want: abi.FieldScan, done: func(abi.Content) {}}
		if err := p.handOver(&j); (err == errElsewhere) != (i < queued) || i == queued && causeOf(err) != causeScannerBusy {
			t.Fatalf("job %d: %v", i, err)
		}
	}
}

// BenchmarkScanRemembered is what a request whose file was scanned before waits for.
func BenchmarkScanRemembered(b *testing.B) {
	name := write(b, []byte("x"))
	needLasting(b, name)
	for what, o := range map[string]Object{"by name": named(b, name), "by descriptor": {File: int(opened(b, name).Fd())}} {
		b.Run(what, func(b *testing.B) {
			benchmarkSubmit(b, pool(b, Options{Scan: Scanning{Scanner: &scanner{edition: "1"}}}), o, abi.FieldScan)
		})
	}
}

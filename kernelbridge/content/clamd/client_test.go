// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/kernelbridge/content"
	"github.com/arbiterd/arbiter/kernelbridge/content/clamdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair returns a server and its client, whose clock the test has.
func pair(t *testing.T) (*clamdtest.Server, *Client, *clock) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "ctl")
	s := listen(t, socket)
	c := New(Options{Socket: socket, Timeout: 20 * time.Second})
	now := &clock{at: time.Unix(1e9, 0)}
	c.gate.now = now.now
	return s, c, now
}

func listen(t *testing.T, socket string) *clamdtest.Server {
	t.Helper()
	s, err := clamdtest.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// holding returns a file with that content, which has no name any more.
func holding(t *testing.T, text string) int {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	return int(f.Fd())
}

func TestScan(t *testing.T) {
	s, c, _ := pair(t)
	for text, want := range map[string]string{"": "", "text": "", "x" + clamdtest.Marker: clamdtest.Found} {
		if got, err := c.Scan(t.Context(), holding(t, text)); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", text, got, err, want)
		}
	}
	if edition, err := c.Edition(t.Context()); err != nil || !strings.HasPrefix(edition, "ClamAV 1.4.3/27500/") {
		t.Errorf("edition %q, %v", edition, err)
	}
	if s.Scans() != 3 || c.Problem() != "" {
		t.Errorf("%d scans, problem %q; want 3 and none", s.Scans(), c.Problem())
	}
}

// What is wrong with one file keeps nobody else from being scanned, and is not clean.
func TestWrongReplies(t *testing.T) {
	s, c, _ := pair(t)
	fd := holding(t, "text")
	for _, reply := range []string{"fd[11]: Not a regular file ERROR\x00", "UNKNOWN COMMAND\x00", "\x00", "fd[11]: OK\x00fd[11]: OK\x00", "fd[11]: OK\x00x",
		strings.Repeat("x", maxReply), strings.Repeat("x", 2*maxReply), strings.Repeat("x", maxReply-1) + "\x00"} {
		s.Answer(func(*os.File) []byte { return []byte(reply) })
		if got, err := c.Scan(t.Context(), fd); err == nil || errors.Is(err, content.ErrUnavailable) || got != "" {
			t.Errorf("%.40q: got %q, %v; want an error about the file", reply, got, err)
		}
		s.Answer(clamdtest.Look)
		if got, err := c.Scan(t.Context(), fd); err != nil || got != "" {
			t.Errorf("after %.40q: got %q, %v", reply, got, err)
		}
	}
}

// A reply without its end counts for nothing, and who ends in the middle of one is let rest.
func TestEndsInTheMiddle(t *testing.T) {
	s, c, now := pair(t)
	fd := holding(t, "text")
	for _, reply := range []string{"", "fd[11]: ", "fd[11]: OK", "fd[11]: OK\n"} {
		s.Answer(func(*os.File) []byte { return []byte(reply) })
		if got, err := c.Scan(t.Context(), fd); !errors.Is(err, content.ErrUnavailable) || got != "" {
			t.Errorf("%q: got %q, %v; want %v", reply, got, err, content.ErrUnavailable)
		}
		now.pass(lastRest)
	}
}

// One file that takes too long is given up; the scanner is not, for it says that it is there.
func TestSlowFile(t *testing.T) {
	s, c, _ := pair(t)
	c.opts.Timeout = 20 * time.Millisecond
	s.Answer(func(*os.File) []byte { return nil })
	if _, err := c.Scan(t.Context(), holding(t, "text")); !errors.Is(err, errUnscanned) || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v, want one that tells of the timeout", err)
	}
	if p := c.Problem(); p != "" {
		t.Errorf("a problem: %s", p)
	}
}

// One that says nothing at all is let rest.
func TestSilence(t *testing.T) {
	s, c, _ := pair(t)
	c.opts.Timeout = 20 * time.Millisecond
	s.Answer(func(*os.File) []byte { return nil })
	s.SetEdition(nil)
	for range 2 {
		if _, err := c.Scan(t.Context(), holding(t, "text")); !errors.Is(err, content.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, content.ErrUnavailable)
		}
	}
	if n := s.Scans(); n != 1 {
		t.Errorf("it was asked %d times, want once", n)
	}
}

// Who no longer waits ends a scan at once, and learns nothing of the scanner by that.
func TestCancel(t *testing.T) {
	s, c, _ := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	s.Answer(func(*os.File) []byte { cancel(); return nil })
	if _, err := c.Scan(ctx, holding(t, "text")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if _, err := c.Edition(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("the edition: got %v, want %v", err, context.Canceled)
	}
	if p := c.Problem(); p != "" {
		t.Errorf("a problem: %s", p)
	}
}

// A daemon that goes is asked less and less often, up to a bound, and found when it comes back.
func TestRestart(t *testing.T) {
	s, c, now := pair(t)
	var log bytes.Buffer
	c.gate.log = slog.New(slog.NewTextHandler(&log, nil))
	fd := holding(t, clamdtest.Marker)
	socket := c.opts.Socket
	s.Close()
	down := func(step string) {
		t.Helper()
		if got, err := c.Scan(t.Context(), fd); !errors.Is(err, content.ErrUnavailable) || got != "" {
			t.Fatalf("%s: got %q, %v; want %v", step, got, err, content.ErrUnavailable)
		}
	}
	down("gone")
	s = listen(t, socket)
	down("resting")
	if s.Scans() != 0 {
		t.Errorf("it was asked while it was let rest")
	}
	s.Close()
	for rest := firstRest; ; rest = min(2*rest, lastRest) {
		if c.gate.rest != rest {
			t.Fatalf("a rest of %v, want %v", c.gate.rest, rest)
		}
		now.pass(rest - 1)
		down("still resting")
		now.pass(1)
		if rest == lastRest {
			break
		}
		down("gone still")
	}
	if p := c.Problem(); !strings.Contains(p, "since 2001-09-09 01:46:40 UTC") || !strings.Contains(p, "connect") {
		t.Errorf("the problem is %q", p)
	}
	listen(t, socket)
	if got, err := c.Scan(t.Context(), fd); err != nil || got != clamdtest.Found || c.Problem() != "" {
		t.Errorf("back again: got %q, %v, problem %q", got, err, c.Problem())
	}
	if text := log.String(); strings.Count(text, "does not answer") != 1 || strings.Count(text, "answers again") != 1 {
		t.Errorf("the log tells not once of each: %s", text)
	}
}

// After a rest one goes first.
func TestOneTriesFirst(t *testing.T) {
	g := gate{now: time.Now, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	now := &clock{at: time.Unix(1e9, 0)}
	g.now = now.now
	broken := errors.New("broken")
	for range 3 { // three were on their way
		if try, err := g.enter(); try || err != nil {
			t.Fatal(try, err)
		}
	}
	for range 3 {
		if err := g.leave(false, broken); !errors.Is(err, broken) || !errors.Is(err, content.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	if g.rest != firstRest {
		t.Errorf("a rest of %v after one failure, want %v", g.rest, firstRest)
	}
	now.pass(firstRest)
	if try, err := g.enter(); !try || err != nil {
		t.Errorf("the first after the rest: %t, %v", try, err)
	}
	if _, err := g.enter(); !errors.Is(err, content.ErrUnavailable) {
		t.Errorf("the second: %v", err)
	}
	g.abandon(true)
	if try, err := g.enter(); !try || err != nil {
		t.Errorf("after one that gave up: %t, %v", try, err)
	}
	g.leave(true, nil)
	for range 2 {
		if try, err := g.enter(); try || err != nil {
			t.Errorf("when it is there: %t, %v", try, err)
		}
	}
}

// BenchmarkScan is a question about a small file, with the fake's own work.
func BenchmarkScan(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "ctl")
	s, err := clamdtest.Listen(socket)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	f, err := os.Open("client.go")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	c := New(Options{Socket: socket, Timeout: time.Second})
	for b.Loop() {
		if _, err := c.Scan(b.Context(), int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
}

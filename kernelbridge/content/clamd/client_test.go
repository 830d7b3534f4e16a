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
	"golang.org/x/sys/unix"

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
		strings.Repeat("x", maxReply), strings.Repeat("x", 2*maxReply), strings.Repeat("x", maxReply-1) + "\x00", "", "fd[11]: ", "fd[11]: OK", "fd[11]: OK\n"} {
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

// A reply without its end counts for nothing, and who ends in the middle of one, and does not say
// that he is there, is let rest.
func TestEndsInTheMiddle(t *testing.T) {
	s, c, now := pair(t)
	s.SetEdition([]byte("ClamAV 1"))
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

// A file that takes long is waited for while the scanner says that it is there.
func TestLongFile(t *testing.T) {
	s, c, _ := pair(t)
	c.life = 500 * time.Millisecond
	s.Answer(func(f *os.File) []byte {
		for s.Editions() < 2 && t.Context().Err() == nil {
			<-time.After(time.Millisecond)
		}
		return clamdtest.Look(f)
	})
	if got, err := c.Scan(t.Context(), holding(t, clamdtest.Marker)); err != nil || got != clamdtest.Found || s.Editions() < 2 {
		t.Errorf("got %q, %v, asked %d times whether it is there", got, err, s.Editions())
	}
}

// One that says nothing at all is let rest, long before a scan may take no longer.
func TestSilence(t *testing.T) {
	s, c, _ := pair(t)
	c.life = 50 * time.Millisecond
	s.Answer(func(*os.File) []byte { return nil })
	s.SetEdition(nil)
	begin := time.Now()
	for range 2 {
		if _, err := c.Scan(t.Context(), holding(t, "text")); !errors.Is(err, content.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, content.ErrUnavailable)
		}
	}
	if took := time.Since(begin); s.Scans() != 1 || took > c.opts.Timeout/2 {
		t.Errorf("it was asked %d times within %v, want once, and not for the %v of a scan", s.Scans(), took, c.opts.Timeout)
	}
}

// What comes behind a reply may come later.
func TestReplyHasAnEnd(t *testing.T) {
	s, c, _ := pair(t)
	c.opts.Timeout, c.life = 50*time.Millisecond, 50*time.Millisecond
	s.KeepOpen()
	if got, err := c.Scan(t.Context(), holding(t, "text")); err == nil || got != "" {
		t.Errorf("got %q, %v before the connection was closed", got, err)
	}
}

// After an outage one file that takes long keeps nobody else from being scanned.
func TestSlowFileAfterOutage(t *testing.T) {
	s, c, now := pair(t)
	c.gate.leave(false, errors.New("broken"))
	now.pass(lastRest)
	release := make(chan struct{})
	s.Answer(func(f *os.File) []byte {
		if info, err := f.Stat(); err != nil || info.Size() == 4 {
			<-release
		}
		return clamdtest.Look(f)
	})
	fd, slow := holding(t, clamdtest.Marker), make(chan error)
	go func() {
		_, err := c.Scan(t.Context(), holding(t, "slow"))
		slow <- err
	}()
	for s.Scans() == 0 && t.Context().Err() == nil {
		<-time.After(time.Millisecond)
	}
	if got, err := c.Scan(t.Context(), fd); err != nil || got != clamdtest.Found {
		t.Errorf("beside a slow file: got %q, %v", got, err)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Errorf("the slow file: %v", err)
	}
}

// A clamd that does not tell its version is there.
func TestNoEdition(t *testing.T) {
	s, c, now := pair(t)
	fd := holding(t, clamdtest.Marker)
	for _, reply := range []string{"COMMAND UNAVAILABLE\x00", "\x00", "clamav 1\x00"} {
		s.SetEdition([]byte(reply))
		c.gate.leave(false, errors.New("broken"))
		now.pass(lastRest)
		if got, err := c.Scan(t.Context(), fd); err != nil || got != clamdtest.Found {
			t.Errorf("%q, after an outage: got %q, %v", reply, got, err)
		}
		if got, err := c.Edition(t.Context()); !errors.Is(err, errNoEdition) || errors.Is(err, content.ErrUnavailable) || got != "" || !strings.Contains(err.Error(), "EnableVersionCommand") {
			t.Errorf("%q: the edition is %q, %v", reply, got, err)
		}
		s.Answer(func(*os.File) []byte { return []byte{} })
		if got, err := c.Scan(t.Context(), fd); !errors.Is(err, errUnscanned) || got != "" {
			t.Errorf("%q, and no answer about a file: got %q, %v", reply, got, err)
		}
		if p := c.Problem(); p != "" {
			t.Errorf("%q: a problem: %s", reply, p)
		}
		s.Answer(clamdtest.Look)
	}
}

// That we have no descriptor left is not clamd's fault.
func TestNoDescriptorLeft(t *testing.T) {
	_, c, _ := pair(t)
	fd := holding(t, "text")
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	got, err := c.Scan(t.Context(), fd)
	edition, failed := c.Edition(t.Context())
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) || errors.Is(err, content.ErrUnavailable) || got != "" {
		t.Errorf("got %q, %v, want %v", got, err, unix.EMFILE)
	}
	if !errors.Is(failed, unix.EMFILE) || errors.Is(failed, content.ErrUnavailable) || c.Problem() != "" {
		t.Errorf("the edition is %q, %v; the problem is %q", edition, failed, c.Problem())
	}
	if got, err := c.Scan(t.Context(), fd); err != nil || got != "" {
		t.Errorf("afterwards: got %q, %v", got, err)
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

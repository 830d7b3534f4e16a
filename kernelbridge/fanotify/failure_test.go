// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Whoever gives a failure verdict, OnFailure learns who was concerned, by what, why.
func TestFailuresAreTold(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name   string
		reason abi.Reason
		work   func(*Source, *subject) // what the worker does about the open
	}{
		{"no worker yet", abi.ReasonNoWorker, func(*Source, *subject) {}},
		{"a worker that is stuck", abi.ReasonDeadline, func(s *Source, _ *subject) { takeOne(t, s, new(abi.Request)) }},
		{"a worker that forgets", abi.ReasonWorkerError, func(s *Source, _ *subject) {
			takeOne(t, s, new(abi.Request))
			s.Next(new(abi.Request))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := mounted(t)
			sub := newSubject(t)
			told := make(chan *abi.Failure, 16)
			b := open(t, Options{Trees: []string{dir}, HoldLimit: 200 * time.Millisecond, OnFail: failing(unix.EACCES),
				OnFailure: func(f *abi.Failure) { told <- f }})
			if c.reason != abi.ReasonNoWorker {
				b.Sources()[0].Next(new(abi.Request)) // from now on nobody else answers at once
			}
			sub.start(action{Do: "open", Path: []byte(dir + "/file")})
			c.work(b.Sources()[0], sub)
			sub.wait()
			select {
			case f := <-told:
				comm, err := os.ReadFile("/proc/" + itoa(sub.pid()) + "/comm")
				if err != nil {
					t.Fatal(err)
				}
				if f.Reason != c.reason || f.Event != abi.EventOpen || string(f.Path()) != dir+"/file" || int(f.TGID) != sub.pid() ||
					f.UID != uint32(os.Getuid()) || unix.ByteSliceToString(f.Comm[:])+"\n" != string(comm) || f.Verdict.Errno != uint16(unix.EACCES) {
					t.Errorf("got %s of %s %q by %d (uid %d, %q): errno %d; want %s of the subject's open", f.Reason, f.Event, f.Path(), f.TGID,
						f.UID, f.Comm, f.Verdict.Errno, c.reason)
				}
			case <-time.After(patience):
				t.Fatalf("nobody was told in %v", patience)
			}
		})
	}
}

// A slow OnFailure holds up nobody; what it misses is counted.
func TestSlowOnFailure(t *testing.T) {
	needRoot(t)
	const opens = failuresKept + 50
	dir := mounted(t)
	sub := newSubject(t)
	release := make(chan struct{})
	told := 0
	b := open(t, Options{Trees: []string{dir}, OnFailure: func(*abi.Failure) { <-release; told++ }})
	if e := sub.do(action{Do: "many", Path: []byte(dir + "/file"), Arg: itoa(opens)}); e != 0 {
		t.Fatalf("opens: got %v, want success", e)
	}
	until(t, "all are counted", func() bool { return b.Stats().Failed[abi.ReasonNoWorker] == opens })
	lost := b.Stats().Unreported
	if lost == 0 {
		t.Error("nothing was lost, though nobody listened")
	}
	close(release)
	if err := b.Close(); err != nil { // hands over what is left
		t.Fatal(err)
	}
	if uint64(told)+lost != opens {
		t.Errorf("%d told + %d lost, want %d", told, lost, opens)
	}
}

// What the kernel refuses by itself is in the log, once: no event tells of it.
func TestReadErrorIsLogged(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	var text strings.Builder
	b := open(t, Options{Trees: []string{dir}, Logger: slog.New(slog.NewTextHandler(&text, nil))})
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r) // from now on nobody else reads
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		sub.start(action{Do: "open", Path: []byte(dir + "/file")})
		until(t, "the open is queued", func() bool { return queueBytes(b.group) > 0 })
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		asked := s.Next(r)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if o := sub.wait(); unix.Errno(o.Errno) != unix.EPERM || asked {
			t.Errorf("open: got %v, asked %v, want %v by the kernel", unix.Errno(o.Errno), asked, unix.EPERM)
		}
	}
	if n := b.Stats().ReadErrors; n != 2 {
		t.Errorf("read errors: got %d, want 2", n)
	}
	if n := strings.Count(text.String(), "too many open files"); n != 1 {
		t.Errorf("the log tells of it %d times, want once: %s", n, text.String())
	}
}

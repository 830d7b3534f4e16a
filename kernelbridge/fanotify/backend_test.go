// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var _ arbiter.Source = (*Source)(nil)

func TestVerdicts(t *testing.T) {
	needRoot(t)
	for _, kind := range []struct {
		name string
		make func(testing.TB) string
	}{{"directory", tree}, {"mount", mounted}} {
		t.Run(kind.name, func(t *testing.T) {
			dir := kind.make(t)
			writeTrue(t, dir+"/prog")
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}, Want: abi.FieldPath | abi.FieldExe})
			var denies atomic.Bool
			j := serve(t, b.Sources()[0], func(r *abi.Request) abi.Verdict {
				if denies.Load() {
					return deny(r)
				}
				return allow(r)
			})

			if got := sub.open(dir + "/file"); got != 0 {
				t.Errorf("allowed open: got %v, want success", got)
			}
			if got := sub.exec(dir + "/prog"); got != 0 {
				t.Errorf("allowed exec: got %v, want success", got)
			}
			seen := j.take()
			if len(seen) != 2 {
				t.Fatalf("asked %d times, want 2 (one open, one exec): %+v", len(seen), paths(seen))
			}
			if seen[0].Event != abi.EventOpen || seen[0].path != dir+"/file" || int(seen[0].TGID) != sub.pid() {
				t.Errorf("got %v of %q by %d, want open of %q by %d", seen[0].Event, seen[0].path, seen[0].TGID, dir+"/file", sub.pid())
			}
			if seen[1].Event != abi.EventExec || seen[1].path != dir+"/prog" || seen[1].Access != abi.AccessExec {
				t.Errorf("got %v of %q, access %d, want exec of %q", seen[1].Event, seen[1].path, seen[1].Access, dir+"/prog")
			}
			until(t, "one twin is counted", func() bool { return b.Stats().Twins == 1 })

			denies.Store(true)
			if got := sub.open(dir + "/file"); got != unix.EPERM {
				t.Errorf("refused open: got %v, want %v", got, unix.EPERM)
			}
			if got := sub.exec(dir + "/prog"); got != unix.EPERM {
				t.Errorf("refused exec: got %v, want %v", got, unix.EPERM)
			}
			j.end()
			s := b.Stats()
			sum := s.Answered + s.Exempt + s.OutOfScope + s.Twins
			for _, n := range s.Failed {
				sum += n
			}
			if s.Events != sum {
				t.Errorf("counters: %d events, the rest sums to %d: %+v", s.Events, sum, s)
			}
		})
	}
}

// An allow that comes too late for an exec lets no later open through as its twin.
func TestLateExecHasNoTwin(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	writeTrue(t, dir+"/prog")
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, HoldLimit: 100 * time.Millisecond, OnFail: failing(unix.EPERM)})
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r) // from now on nobody else answers at once
	sub.start(action{Do: "execself", Path: []byte(dir + "/prog")})
	takeOne(t, s, r)
	if o := sub.wait(); unix.Errno(o.Errno) != unix.EPERM {
		t.Fatalf("exec: got %v, want the failure verdict", unix.Errno(o.Errno))
	}
	if s.Reply(r, abi.Verdict{}) {
		t.Fatal("late reply: got true, want false")
	}
	serve(t, s, deny)
	if e := sub.open(dir + "/prog"); e != unix.EPERM {
		t.Errorf("open by the same thread: got %v, want %v", e, unix.EPERM)
	}
}

func paths(seen []asked) (p []string) {
	for _, a := range seen {
		p = append(p, a.Event.String()+" "+a.path+" by "+a.exe)
	}
	return p
}

func TestOwnOpensAreNeverHeld(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	b := open(t, Options{Trees: []string{dir}, OnFail: map[abi.Event]abi.Verdict{abi.EventOpen: {Errno: 1}}})
	j := serve(t, b.Sources()[0], deny)
	for range 100 {
		if _, err := os.ReadFile(dir + "/file"); err != nil {
			t.Fatalf("own open: got %v, want success", err)
		}
	}
	if seen := j.take(); len(seen) != 0 {
		t.Errorf("own opens were asked: %v", paths(seen))
	}
}

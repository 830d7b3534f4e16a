// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// takeOne takes a request as a worker would, and leaves it open.
func takeOne(t *testing.T, s *Source, r *abi.Request) {
	t.Helper()
	for end := time.Now().Add(patience); !s.Next(r); s.Park(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("no request in %v", patience)
		}
	}
}

func failing(e unix.Errno) map[abi.Event]abi.Verdict {
	return map[abi.Event]abi.Verdict{abi.EventOpen: {Errno: uint16(e)}, abi.EventExec: {Errno: uint16(e)}}
}

func TestUnansweredRequest(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name   string
		onFail map[abi.Event]abi.Verdict
		want   unix.Errno
	}{{"allows", nil, 0}, {"refuses", failing(unix.EACCES), unix.EPERM}} {
		t.Run(c.name, func(t *testing.T) {
			const limit = 200 * time.Millisecond
			dir := mounted(t)
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}, HoldLimit: limit, OnFail: c.onFail})
			s, r := b.Sources()[0], new(abi.Request)
			s.Next(r) // from now on nobody else answers at once
			sub.start(action{Do: "open", Path: []byte(dir + "/file")})
			takeOne(t, s, r)
			o := sub.wait()
			if unix.Errno(o.Errno) != c.want {
				t.Errorf("open: got %v, want %v", unix.Errno(o.Errno), c.want)
			}
			if o.Took < limit/2 || o.Took > patience/2 {
				t.Errorf("held for %v, want about %v", o.Took, limit)
			}
			if s.Reply(r, abi.Verdict{}) {
				t.Error("late reply: got true, want false")
			}
			if st := b.Stats(); st.Failed[abi.ReasonDeadline] != 1 || st.Late != 1 || st.Answered != 0 {
				t.Errorf("counters: got %+v, want one deadline, one late", st)
			}
			// The source goes on.
			serve(t, s, allow)
			if e := sub.open(dir + "/file"); e != 0 {
				t.Errorf("next open: got %v, want success", e)
			}
		})
	}
}

func TestForgottenRequest(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, OnFail: failing(unix.EPERM)})
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r) // from now on nobody else answers at once
	sub.start(action{Do: "open", Path: []byte(dir + "/file")})
	takeOne(t, s, r)
	s.Next(r) // the worker panicked and goes on without having replied
	if o := sub.wait(); unix.Errno(o.Errno) != unix.EPERM {
		t.Errorf("open: got %v, want the failure verdict", unix.Errno(o.Errno))
	}
	if st := b.Stats(); st.Failed[abi.ReasonWorkerError] != 1 {
		t.Errorf("worker_error: got %d, want 1", st.Failed[abi.ReasonWorkerError])
	}
}

func TestNobodyReads(t *testing.T) {
	needRoot(t)
	const limit = 200 * time.Millisecond
	dir := mounted(t)
	subs := []*subject{newSubject(t), newSubject(t), newSubject(t)}
	b := open(t, Options{Trees: []string{dir}, HoldLimit: limit, OnFail: failing(unix.EPERM)})

	t.Run("before the first worker", func(t *testing.T) {
		subs[0].start(action{Do: "open", Path: []byte(dir + "/file")})
		if o := subs[0].wait(); unix.Errno(o.Errno) != unix.EPERM || o.Took > patience/2 {
			t.Errorf("got %v after %v, want %v at once", unix.Errno(o.Errno), o.Took, unix.EPERM)
		}
	})
	t.Run("all workers stuck", func(t *testing.T) {
		b.Sources()[0].Next(new(abi.Request)) // and never again
		for _, s := range subs {
			s.start(action{Do: "open", Path: []byte(dir + "/file")})
		}
		for _, s := range subs {
			if o := s.wait(); unix.Errno(o.Errno) != unix.EPERM || o.Took > patience/2 {
				t.Errorf("got %v after %v, want %v within %v", unix.Errno(o.Errno), o.Took, unix.EPERM, 2*limit)
			}
		}
	})
	until(t, "no_worker is counted for each", func() bool { // after the answer, so the subject may be faster
		return b.Stats().Failed[abi.ReasonNoWorker] == uint64(1+len(subs))
	})
}

// TestTakeOver: a reader that has looked whether a worker comes may answer one event more.
// The first worker waits for it, and not for ever.
func TestTakeOver(t *testing.T) {
	needRoot(t)
	for _, stays := range []bool{false, true} {
		t.Run(fmt.Sprintf("stays %t", stays), func(t *testing.T) {
			b := open(t, Options{Trees: []string{mounted(t)}})
			b.serving.Add(1)
			back := make(chan time.Time)
			begin := time.Now()
			go func() {
				b.Sources()[0].Next(new(abi.Request))
				back <- time.Now()
			}()
			until(t, "the worker has come", b.served.Load)
			gone := time.Now()
			if !stays {
				unix.Poll(nil, 10)
				gone = time.Now()
				b.serving.Add(-1)
			}
			end := <-back
			if stays && end.Sub(begin) < maxTick || end.Before(gone) {
				t.Errorf("the worker went on after %v, before the reader did", end.Sub(begin))
			}
		})
	}
}

func TestKilledWhileHeld(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Want: allFields})
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r) // from now on nobody else answers at once
	before := descriptors(t)
	sub.start(action{Do: "open", Path: []byte(dir + "/file")})
	takeOne(t, s, r)
	begin := time.Now()
	if err := sub.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, ok := <-sub.done; ok {
		t.Fatal("the subject had an outcome, want it killed")
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("the killed task lived for %v", took)
	}
	sub.cmd.Process.Wait()
	// Before 6.9 nothing says that the thread has gone.
	if s.Reply(r, abi.Verdict{}) && b.features.threadFD {
		t.Error("reply to a killed task: got true, want false")
	}
	if after := descriptors(t); after > before {
		t.Errorf("descriptors: got %d, want the %d from before", after, before)
	}
}

func TestCloseLetsGo(t *testing.T) {
	needRoot(t)
	for _, holder := range []string{"a worker", "nobody"} {
		t.Run("held by "+holder, func(t *testing.T) {
			dir := mounted(t)
			sub := newSubject(t)
			before := descriptors(t)
			b := open(t, Options{Trees: []string{dir}, OnFail: failing(unix.EPERM)})
			s, r := b.Sources()[0], new(abi.Request)
			s.Next(r)
			sub.start(action{Do: "open", Path: []byte(dir + "/file")})
			if holder == "nobody" {
				for end := time.Now().Add(patience); queueBytes(b.group) == 0; {
					if time.Now().After(end) {
						t.Fatal("nothing is queued")
					}
				}
			} else {
				takeOne(t, s, r)
			}
			for range 2 {
				if err := b.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if o := sub.wait(); o.Errno != 0 {
				t.Errorf("open: got %v, want success", unix.Errno(o.Errno))
			}
			if s.Reply(r, abi.Verdict{Errno: 1}) || s.Next(r) {
				t.Error("Reply or Next after Close: got true, want false")
			}
			s.Park(time.Hour) // returns at once
			s.Wake()
			if after := descriptors(t); after != before {
				t.Errorf("descriptors: got %d, want the %d from before", after, before)
			}
			if err := b.Configure([]string{dir}, 0, nil); err == nil {
				t.Error("Configure after Close: got no error")
			}
		})
	}
}

// A reader that is busy in the moment of Close reads on afterwards: the watcher may wait
// for opens of its own, and no worker reads any more.
func TestBusyReaderAtClose(t *testing.T) {
	needRoot(t)
	var beats atomic.Int64
	b := open(t, Options{Beat: func() { beats.Add(1) }})
	w := &watchdog{b: b, own: newReader(b), reader: startReader(b), tick: time.Millisecond}
	w.reader.busy.Store(true)
	b.running.Add(1)
	go w.run()
	one := [8]byte{1}
	if _, err := unix.Write(b.stop, one[:]); err != nil {
		t.Fatal(err)
	}
	until(t, "the watchdog has seen it", func() bool { return beats.Load() > 10 })
	w.reader.busy.Store(false)
	until(t, "the reader has a job", w.reader.busy.Load)
}

// descriptors counts what this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestManyEvents(t *testing.T) {
	needRoot(t)
	const workers, subjects, opens = 3, 4, 1000
	dir := mounted(t)
	writeTrue(t, dir+"/prog")
	var subs []*subject
	for range subjects {
		subs = append(subs, newSubject(t))
	}
	b := open(t, Options{Trees: []string{dir}, Workers: workers, Want: allFields})
	before := descriptors(t)
	var mu sync.Mutex
	counts := map[abi.Event]int{}
	var judges []*judge
	for _, s := range b.Sources() {
		judges = append(judges, serve(t, s, func(r *abi.Request) abi.Verdict {
			mu.Lock()
			defer mu.Unlock()
			counts[r.Event]++
			return abi.Verdict{}
		}))
	}
	for _, s := range subs {
		s.start(action{Do: "many", Path: []byte(dir + "/file"), Arg: itoa(opens)})
		for range 20 {
			s.start(action{Do: "exec", Path: []byte(dir + "/prog")})
		}
	}
	for _, s := range subs {
		for range 21 {
			if o := s.wait(); o.Errno != 0 {
				t.Fatalf("got %v, want success", unix.Errno(o.Errno))
			}
		}
	}
	for _, j := range judges {
		j.end()
	}
	if counts[abi.EventOpen] != subjects*opens || counts[abi.EventExec] != subjects*20 {
		t.Errorf("asked about %v, want %d opens and %d execs", counts, subjects*opens, subjects*20)
	}
	if st := b.Stats(); st.Twins != subjects*20 || b.twins.count.Load() != 0 {
		t.Errorf("twins: got %d, %d left, want %d, 0 left", st.Twins, b.twins.count.Load(), subjects*20)
	}
	if after := descriptors(t); after != before {
		t.Errorf("descriptors: got %d, want the %d from before", after, before)
	}
}

func TestWakeEndsPark(t *testing.T) {
	needRoot(t)
	b := open(t, Options{Trees: []string{mounted(t)}})
	s := b.Sources()[0]
	done := make(chan struct{})
	var stop atomic.Bool
	go func() {
		defer close(done)
		for !stop.Load() { // a signal of the runtime ends a Park as well
			s.Park(time.Hour)
		}
	}()
	for range 2 {
		s.Wake()
		for end := time.Now().Add(patience); ; {
			var n [1]unix.PollFd
			n[0] = unix.PollFd{Fd: int32(s.wake), Events: unix.POLLIN}
			if c, _ := unix.Poll(n[:], 0); c == 0 {
				break // consumed
			}
			if time.Now().After(end) {
				t.Fatal("Wake did not end Park")
			}
		}
	}
	stop.Store(true)
	s.Wake()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Wake did not end Park")
	}
	begin := time.Now()
	s.Park(10 * time.Millisecond)
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("Park(10ms) took %v", took)
	}
}

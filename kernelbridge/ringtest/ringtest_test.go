// SPDX-License-Identifier: Apache-2.0

package ringtest

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience ends a test that would hang.
const patience = 20 * time.Second

func newKernel(t *testing.T, workers int) *Kernel {
	t.Helper()
	k, err := New(workers)
	if err != nil {
		t.Fatalf("making the ring: %v", err)
	}
	atomic.StoreUint64(&k.Header().WaitNS, uint64(patience))
	t.Cleanup(func() {
		for range 2 {
			if err := k.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
	})
	return k
}

// work lets every worker answer until the returned function is called, which says
// how many questions were taken and how many answers were late.
func work(t *testing.T, k *Kernel, verdict func(*abi.Request) abi.Verdict) (stop func() (taken, late uint64)) {
	t.Helper()
	var ending atomic.Bool
	var taken, late atomic.Uint64
	var wg sync.WaitGroup
	for _, s := range k.Sources() {
		wg.Go(func() {
			var q abi.Request
			for idle := 0; !ending.Load(); {
				if s.Next(&q) {
					taken.Add(1)
					if !s.Reply(&q, verdict(&q)) {
						late.Add(1)
					}
					continue
				}
				if idle++; idle%64 == 0 {
					s.Park(patience)
				} else {
					runtime.Gosched()
				}
			}
		})
	}
	var once sync.Once
	end := func() (uint64, uint64) {
		once.Do(func() {
			ending.Store(true)
			for _, s := range k.Sources() {
				s.Wake()
			}
			wg.Wait()
		})
		return taken.Load(), late.Load()
	}
	t.Cleanup(func() { end() })
	return end
}

// checkCounts requires that every question has exactly one outcome, and returns the
// sum of the failures.
func checkCounts(t *testing.T, k *Kernel, e abi.Event, asked uint64) (answered, failed uint64) {
	t.Helper()
	c := k.Counts(e)
	for r := range c.Failed {
		failed += c.Failed[r].Load()
	}
	answered = c.Answered.Load()
	if c.Asked.Load() != asked || answered+failed != asked {
		t.Errorf("%s: %d asked, %d answered, %d failed; want %d asked and the others to add up", e, c.Asked.Load(), answered, failed, asked)
	}
	return answered, failed
}

// checkFree requires that no slot leaked.
func checkFree(t *testing.T, k *Kernel) {
	t.Helper()
	for i := range abi.Slots {
		if s := abi.Word(atomic.LoadUint64(&k.Slot(i).Word)).State(); s != abi.Free {
			t.Errorf("slot %d is %s when nobody asks, want free", i, s)
		}
	}
}

func TestAnswers(t *testing.T) {
	k := newKernel(t, 1)
	work(t, k, func(q *abi.Request) abi.Verdict {
		if string(q.Path()) == "/denied" && string(q.Exe()) == "/bin/sh" && q.Event == abi.EventExec && q.UID == 7 && q.PostedNS > 0 {
			return abi.Verdict{Errno: 13}
		}
		return abi.Verdict{}
	})
	if got, want := k.Ask(ring.Facts{Event: uint32(abi.EventExec), UID: 7}, "/denied", "/bin/sh"), (Answer{Errno: 13}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := k.Ask(ring.Facts{Event: uint32(abi.EventOpen), UID: 7}, "/denied", "/bin/sh"); got != (Answer{}) {
		t.Errorf("got %+v, want it allowed", got)
	}
	checkCounts(t, k, abi.EventExec, 1)
	checkCounts(t, k, abi.EventOpen, 1)
	checkFree(t, k)
}

// Nobody works: the wait ends at its bound with the failure verdict of the event,
// and a late worker finds nothing.
func TestDeadline(t *testing.T) {
	k := newKernel(t, 1)
	h := k.Header()
	atomic.StoreUint64(&h.WaitNS, uint64(2*time.Millisecond))
	h.FailErrno[abi.EventExec] = 1
	for _, tc := range []struct {
		event abi.Event
		errno uint16
	}{{abi.EventOpen, 0}, {abi.EventExec, 1}} {
		start := Now()
		got := k.Ask(ring.Facts{Event: uint32(tc.event)}, "/", "")
		if want := (Answer{tc.errno, abi.ReasonDeadline}); got != want {
			t.Errorf("%s: got %+v, want %+v", tc.event, got, want)
		}
		if d := time.Duration(Now() - start); d < 2*time.Millisecond {
			t.Errorf("%s: gave up after %v, before the bound", tc.event, d)
		}
		if n := k.Counts(tc.event).Failed[abi.ReasonDeadline].Load(); n != 1 {
			t.Errorf("%s: %d deadlines counted, want 1", tc.event, n)
		}
		checkCounts(t, k, tc.event, 1)
	}
	var q abi.Request
	if k.Sources()[0].Next(&q) {
		t.Errorf("a question that was given up was handed out: %q", q.Path())
	}
	checkFree(t, k)
}

func TestRingFull(t *testing.T) {
	k := newKernel(t, 1)
	k.Header().FailErrno[abi.EventOpen] = 5
	for i := range abi.Slots {
		atomic.StoreUint64(&k.Slot(i).Word, uint64(abi.MakeWord(1, abi.State(1+i%5), 0)))
	}
	open := ring.Facts{Event: uint32(abi.EventOpen)}
	if got, want := k.Ask(open, "/", ""), (Answer{5, abi.ReasonRingFull}); got != want {
		t.Errorf("all slots in use: got %+v, want %+v", got, want)
	}
	if n := k.Counts(abi.EventOpen).Failed[abi.ReasonRingFull].Load(); n != 1 {
		t.Errorf("%d ring_full counted, want 1", n)
	}
	// One slot is enough, wherever it is.
	work(t, k, func(*abi.Request) abi.Verdict { return abi.Verdict{Errno: 2} })
	for n, i := range []int{0, 511, abi.Slots - 1} {
		atomic.StoreUint64(&k.Slot(i).Word, uint64(abi.MakeWord(1<<32-1, abi.Free, 0)))
		if got, want := k.Ask(open, "/", ""), (Answer{Errno: 2}); got != want {
			t.Errorf("slot %d is free: got %+v, want %+v", i, got, want)
		}
		if w := abi.Word(atomic.LoadUint64(&k.Slot(i).Word)); w != abi.MakeWord(0, abi.Free, 0) {
			t.Errorf("slot %d ends %s in generation %#x, want free in the next, 0", i, w.State(), w.Gen())
		}
		atomic.StoreUint64(&k.Slot(i).Word, uint64(abi.MakeWord(1, abi.Filling, 0)))
		checkCounts(t, k, abi.EventOpen, uint64(n+2))
	}
}

// Somebody writes nonsense into the word while its requester waits: that ends with
// a failure verdict, never with the nonsense, and the slot is free again.
func TestCorruptedWord(t *testing.T) {
	for _, tc := range []struct {
		name string
		word func(posted abi.Word) abi.Word
	}{
		{"all ones", func(abi.Word) abi.Word { return ^abi.Word(0) }},
		{"zero", func(abi.Word) abi.Word { return 0 }},
		{"no state", func(w abi.Word) abi.Word { return w.With(77) }},
		{"allowed in another generation", func(w abi.Word) abi.Word { return abi.MakeWord(w.Gen()+1, abi.Done, 0) }},
		{"posted in another generation", func(w abi.Word) abi.Word { return abi.MakeWord(w.Gen()-1, abi.Posted, 0) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKernel(t, 1)
			h := k.Header()
			atomic.StoreUint64(&h.WaitNS, uint64(2*time.Millisecond))
			h.FailErrno[abi.EventOpen] = 11
			var stop atomic.Bool
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; !stop.Load(); i = (i + 1) % abi.Slots {
					at := &k.Slot(i).Word
					if w := abi.Word(atomic.LoadUint64(at)); w.State() == abi.Posted {
						atomic.CompareAndSwapUint64(at, uint64(w), uint64(tc.word(w)))
					}
				}
			})
			// The bound may come before the nonsense does.
			asks, hit := uint64(0), false
			for end := time.Now().Add(patience); !hit && time.Now().Before(end); asks++ {
				got := k.Ask(ring.Facts{Event: uint32(abi.EventOpen)}, "/", "")
				hit = got.Reason == abi.ReasonWorkerError
				if got.Errno != 11 || !hit && got.Reason != abi.ReasonDeadline {
					t.Errorf("got %+v, want the failure verdict, worker_error", got)
				}
			}
			stop.Store(true)
			wg.Wait()
			if !hit {
				t.Errorf("%d questions and no worker_error", asks)
			}
			checkCounts(t, k, abi.EventOpen, asks)
			checkFree(t, k)
		})
	}
}

// A path that does not fit is no path: no rule may be trusted on a part of it.
func TestLongPath(t *testing.T) {
	k := newKernel(t, 1)
	var flags, length atomic.Uint32
	work(t, k, func(q *abi.Request) abi.Verdict {
		flags.Store(q.Flags)
		length.Store(q.PathLen)
		return abi.Verdict{}
	})
	long := make([]byte, abi.PathBytes+100)
	for _, tc := range []struct{ bytes, wantLen, wantFlags uint32 }{
		{abi.PathBytes - 1, abi.PathBytes - 1, 0},
		{abi.PathBytes, 0, abi.FlagPathTruncated},
		{abi.PathBytes + 100, 0, abi.FlagPathTruncated},
	} {
		k.Ask(ring.Facts{Event: uint32(abi.EventOpen)}, string(long[:tc.bytes]), "/x")
		if length.Load() != tc.wantLen || flags.Load() != tc.wantFlags {
			t.Errorf("a path of %d bytes arrives with %d and flags %#x, want %d and %#x", tc.bytes, length.Load(), flags.Load(), tc.wantLen, tc.wantFlags)
		}
	}
}

// Many ask, several work. Each gets the answer to its own question, the counts add
// up, also when many give up, and the generations wrap meanwhile.
func TestCrowd(t *testing.T) {
	const askers, each = 8, 600
	for _, tc := range []struct {
		name    string
		workers int
		wait    time.Duration
	}{
		{"one worker", 1, patience},
		{"three workers", 3, patience},
		{"three workers, no patience", 3, 30 * time.Microsecond},
		{"more workers than askers", 16, patience},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k := newKernel(t, tc.workers)
			atomic.StoreUint64(&k.Header().WaitNS, uint64(tc.wait))
			for i := range abi.Slots { // the next claim wraps
				atomic.StoreUint64(&k.Slot(i).Word, uint64(abi.MakeWord(1<<32-1-uint32(i%3), abi.Free, 0)))
			}
			verdict := func(event abi.Event, path []byte) uint16 {
				return uint16(crc32.ChecksumIEEE(path)+uint32(event))%1000 + 1
			}
			stop := work(t, k, func(q *abi.Request) abi.Verdict { return abi.Verdict{Errno: verdict(q.Event, q.Path())} })
			var wg sync.WaitGroup
			var own [abi.EventCount]atomic.Uint64
			for a := range askers {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(a), 1))
					for n := range each {
						event := abi.EventOpen + abi.Event(rnd.IntN(2))
						path := fmt.Sprintf("/%d/%d/%0*d", a, n, rnd.IntN(300), 0)
						own[event].Add(1)
						got := k.Ask(ring.Facts{Event: uint32(event)}, path, "/exe")
						if want := (Answer{Errno: verdict(event, []byte(path))}); got.Reason == abi.ReasonNone && got != want {
							t.Errorf("%s %s: got %+v, want %+v", event, path, got, want)
						}
						if got.Reason != abi.ReasonNone && (tc.wait == patience || got != Answer{Reason: abi.ReasonDeadline}) {
							t.Errorf("%s %s: got %+v, want an answer", event, path, got)
						}
					}
				})
			}
			wg.Wait()
			taken, late := stop()
			var answered, failed uint64
			for e := abi.EventOpen; e < abi.EventCount; e++ {
				a, f := checkCounts(t, k, e, own[e].Load())
				answered, failed = answered+a, failed+f
			}
			if answered+failed != askers*each || taken != answered+late || late > failed {
				t.Errorf("%d answered, %d failed; %d taken, %d of these late: want %d in all, taken = answered + late", answered, failed, taken, late, askers*each)
			}
			checkFree(t, k)
			t.Logf("%d answered, %d failed, %d late", answered, failed, late)
		})
	}
}

func TestNewErrors(t *testing.T) {
	files := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := files()
	for _, workers := range []int{0, -1, abi.MaxWorkers + 1} {
		if k, err := New(workers); err == nil {
			k.Close()
			t.Errorf("a ring for %d workers was made, want an error", workers)
		}
	}
	if got := files(); got != before {
		t.Errorf("%d descriptors open after the errors, %d before", got, before)
	}
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
)

// askAlone asks by slot 0 and polls until the answer is there, without a call of the Go
// runtime in between: nobody gets the processor of this goroutine but by force, which takes
// the runtime 10 ms.
func askAlone(k *ringtest.Kernel, path string) (errno uint16, took time.Duration) {
	slot := k.Slot(0)
	gen := abi.Word(atomic.LoadUint64(&slot.Word)).Gen() + 1
	atomic.StoreUint64(&slot.Word, uint64(abi.MakeWord(gen, abi.Filling, 0)))
	begin := detached.Now()
	ring.StoreFacts(&slot.Facts, &ring.Facts{Event: uint32(abi.EventOpen), PostedNS: uint64(begin), PathLen: uint32(len(path))})
	ring.StoreBytes(&slot.Path, []byte(path))
	atomic.StoreUint64(&slot.Word, uint64(abi.MakeWord(gen, abi.Posted, 0)))
	atomic.OrUint64(&k.Header().Posted[0], 1)
	for end := begin + int64(10*time.Second); detached.Now() < end; {
		if word := abi.Word(atomic.LoadUint64(&slot.Word)); word.State() == abi.Done {
			took = time.Duration(detached.Now() - begin)
			atomic.StoreUint64(&slot.Word, uint64(abi.MakeWord(gen, abi.Free, 0)))
			return word.Errno(), took
		}
	}
	return ^uint16(0), time.Duration(detached.Now() - begin)
}

// What the cache has is answered without a processor of the Go runtime, and recorded if it is
// refused, unless the collector has to be woken for that.
func TestHitsTakeNoProcessor(t *testing.T) {
	if !detached.Can {
		t.Skip("runs where workers can be detached only: not with the race detector")
	}
	cpu := lastCPU(t) // of two: who asks polls as well
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	a, k := start(t, 1, func(c *Config) { c.SpinFor, c.Apart, c.Workers[0].CPU = time.Hour, true, cpu })
	const asks = 50
	until := func(what string, is func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !is(); runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("not after 10 s: %s", what)
			}
		}
	}
	for _, ask := range []struct {
		path string
		want uint16
	}{{"/t/x", 0}, {"/t/secret", uint16(unix.EACCES)}} {
		path, want := ask.path, ask.want
		k.Ask(facts(abi.EventOpen, 0), path, "")
		settled(t, a)
		until("the collector sleeps", func() bool { return a.stream.state.Load() == asleep })
		before := a.Stats()
		a.stream.state.Store(resting) // it sleeps, but nobody knows
		unix.Poll(nil, 50)            // the worker has the processor to itself, and detaches
		slow := 0
		for range asks {
			errno, took := askAlone(k, path)
			if errno != want {
				t.Fatalf("%s: errno %d after %v, want %d", path, errno, took, want)
			}
			if took > 5*time.Millisecond {
				slow++
			}
		}
		if slow > asks/5 { // the machine has other work, too
			t.Errorf("%s: %d of %d hits took more than 5 ms", path, slow, asks)
		}
		s := settled(t, a)
		if s.Hits-before.Hits != asks {
			t.Errorf("%s: %d hits, want %d", path, s.Hits-before.Hits, asks)
		}
		a.stream.state.Store(asleep)
		if want == 0 {
			continue
		}
		a.stream.wakeUp()
		until("a record of each hit", func() bool { return a.Stats().EventsRecorded-before.EventsRecorded == asks })
	}
}

// Collections of garbage and new rules come between the answers, hits and others, as they like.
func TestHitsBesideCollections(t *testing.T) {
	a, k := start(t, 2, nil)
	set := func(epoch uint64) {
		text := fmt.Sprintf("version: 1\ndefault: {deny: %d}\ndeadline: 1m\nscope: {paths: [/t]}\n", epoch%100+1)
		if err := a.Install(t.Context(), mustRules(t, text, epoch), cache.RulesPushed); err != nil {
			t.Error(err)
		}
	}
	set(1)
	var stop atomic.Bool
	var last atomic.Uint64
	last.Store(1)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for n := i; !stop.Load(); n++ {
				least := last.Load()
				got := k.Ask(facts(abi.EventOpen, 0), fmt.Sprintf("/t/%d", n%8), "")
				if got.Reason != abi.ReasonNone || uint64(got.Errno) < least+1 {
					t.Errorf("%+v after epoch %d was in force", got, least)
					return
				}
			}
		})
	}
	for epoch := uint64(2); epoch < 60; epoch++ {
		runtime.GC()
		set(epoch)
		last.Store(epoch)
		runtime.Stack(make([]byte, 1<<16), true) // looks at the stacks of all
	}
	stop.Store(true)
	wg.Wait()
	if s := settled(t, a); s.Hits == 0 || s.Decided == 0 {
		t.Errorf("%d hits and %d decided, want some of each", s.Hits, s.Decided)
	}
}

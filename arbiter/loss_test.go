// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var pathless = []string{""}

// numbered asks for a path that is audited and ends with the request's number, n
// times.
type numbered struct {
	canned
	asked, n int
}

func (s *numbered) Next(r *abi.Request) bool {
	if s.asked == s.n {
		return false
	}
	s.asked++
	s.paths = pathless
	s.canned.Next(r)
	r.PathLen = uint32(copy(r.PathBuf[:], strconv.AppendInt([]byte("/t/watched/"), int64(s.asked), 10)))
	return true
}

// checkNumbers takes what sub has and checks that each event has the number of its
// request: then every loss is a gap, and exactly where it happened. It returns the
// number of events.
func checkNumbers(t *testing.T, sub *Subscription) (events uint64) {
	t.Helper()
	for len(sub.C) > 0 {
		e := <-sub.C
		events++
		if want := strings.TrimPrefix(e.Path, "/t/watched/"); strconv.FormatUint(e.Seq, 10) != want {
			t.Fatalf("event %d has the sequence number %d; it was request %s", events, e.Seq, want)
		}
	}
	return events
}

// What a full journal loses is missing in the sequence, where it was lost.
func TestLossIsAGap(t *testing.T) {
	const n = 5000
	src := &numbered{n: 3 * n}
	w := one(t, mustRules(t, testRules, 1), -1, src)
	a := w.arbiter
	sub := a.Subscribe(3*n, SubscribeOptions{})
	defer sub.Close()
	var events uint64
	check := func(asked int) {
		t.Helper()
		events += checkNumbers(t, sub)
		s := a.Stats()
		if s.EventsRecorded != events || s.EventsRecorded+s.EventsDropped != uint64(asked) {
			t.Errorf("after %d refusals: %d events, %d recorded, %d dropped", asked, events, s.EventsRecorded, s.EventsDropped)
		}
		if sub.Dropped() != 0 {
			t.Errorf("the subscriber is told that it lost %d, but its buffer had room", sub.Dropped())
		}
	}

	// Nobody collects: a tail is lost, and seen to be when the journal is empty.
	for range n {
		w.step()
	}
	drainAll(a)
	check(n)
	dropped := a.Stats().EventsDropped
	if dropped == 0 {
		t.Fatal("nothing was dropped")
	}
	if s := a.Stats(); s.LastSeq != n {
		t.Errorf("last sequence number %d, want %d", s.LastSeq, n)
	}

	// Losses in between: the collector takes a few now and then.
	random := rand.New(rand.NewPCG(1, 2))
	for range 2 * n {
		w.step()
		if random.IntN(20) == 0 {
			for range random.IntN(12) {
				a.stream.take(w)
			}
		}
	}
	drainAll(a)
	check(3 * n)
	if s := a.Stats(); s.LastSeq != 3*n || s.EventsDropped == dropped {
		t.Errorf("last sequence number %d, %d dropped; want %d, more than %d", s.LastSeq, s.EventsDropped, 3*n, dropped)
	}

	// Who looks back gets what there is, not what is missing.
	late := a.Subscribe(10, SubscribeOptions{Recent: 10})
	defer late.Close()
	if got := len(late.C); got != 10 {
		t.Errorf("%d recent events, want 10", got)
	}
	checkNumbers(t, late)
}

// drainAll publishes all that is in the journals, without a collector.
func drainAll(a *Arbiter) {
	for a.stream.drain(a.workers) {
	}
}

// The same with the collector at work, held up for a while.
func TestLossIsAGapUnderLoad(t *testing.T) {
	const n = 20_000
	src := &numbered{n: n}
	a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: src, CPU: -1}}, CacheEntries: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	sub := a.Subscribe(n, SubscribeOptions{})
	a.stream.mu.Lock()
	held := true
	defer func() {
		if held {
			a.stream.mu.Unlock()
		}
	}()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		if held && a.workers[0].counters.dropped.Load() > 0 {
			a.stream.mu.Unlock()
			held = false
		}
		if !held {
			if s := a.Stats(); s.LastSeq == n {
				break
			}
		}
		if time.Now().After(end) {
			t.Fatalf("the sequence does not come to %d", n)
		}
		runtime.Gosched()
	}
	s := a.Stats()
	if got := checkNumbers(t, sub); got != s.EventsRecorded || got+s.EventsDropped != n || s.EventsDropped == 0 {
		t.Errorf("%d events, %d recorded, %d dropped; want %d together", got, s.EventsRecorded, s.EventsDropped, n)
	}
}

// A worker that is flooded does not keep the collector from the others.
func TestCollectorIsFair(t *testing.T) {
	k := &numbered{n: 1000}
	a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: k, CPU: -1}, {Source: k, CPU: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range a.workers {
		w.adopt(a.current.Load())
		for range 500 {
			w.step()
		}
	}
	sub := a.Subscribe(1000, SubscribeOptions{})
	defer sub.Close()
	a.stream.drain(a.workers)
	seen := map[int]int{}
	for len(sub.C) > 0 {
		seen[(<-sub.C).Worker]++
	}
	if seen[0] != drainBatch || seen[1] != drainBatch {
		t.Errorf("one turn published %v, want %d of each worker", seen, drainBatch)
	}
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// held is a source that gives one request and holds its answer back until the
// arbiter stops; then it has a few more.
type held struct {
	canned
	taken   chan struct{} // closed when the first request is there
	stopped chan struct{} // closed when Close wakes the source
	first   bool
	more    int
}

func (h *held) Next(r *abi.Request) bool {
	if h.more == 0 {
		return false
	}
	h.more--
	return h.canned.Next(r)
}

func (h *held) Reply(*abi.Request, abi.Verdict) bool {
	if !h.first {
		h.first = true
		close(h.taken)
		<-h.stopped
	}
	return true
}

func (h *held) Wake() { close(h.stopped) }

// await ends the test with what if c is not closed in time.
func await(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(10 * time.Second):
		t.Fatal(what)
	}
}

// What a worker refuses while the arbiter stops is in the buffers of the subscribers
// before their channels close.
func TestCloseLosesNoRecord(t *testing.T) {
	const asked = 20
	for round := range 20 {
		src := &held{canned: canned{paths: []string{"/t/secret"}}, taken: make(chan struct{}), stopped: make(chan struct{}), more: asked}
		a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: src, CPU: -1}}})
		if err != nil {
			t.Fatal(err)
		}
		sub := a.Subscribe(asked, SubscribeOptions{})
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		await(t, src.taken, "the worker takes no request")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		s := a.Stats()
		var got uint64
		for range sub.C {
			got++
		}
		if got != s.Denied || s.EventsRecorded != s.Denied || s.Denied == 0 {
			t.Fatalf("round %d: %d events received, %d recorded, %d refused; want all of them", round, got, s.EventsRecorded, s.Denied)
		}
	}
}

// gapped is a source that has a request at all times, but for a few fruitless polls
// between two of them.
type gapped struct {
	canned
	gap, polls int
}

func (g *gapped) Next(r *abi.Request) bool {
	g.polls++
	return g.polls%(g.gap+1) == 0 && g.canned.Next(r)
}

// Close ends though requests never do.
func TestCloseUnderLoad(t *testing.T) {
	for _, gap := range []int{0, 1, 63} {
		t.Run(fmt.Sprintf("%d fruitless polls", gap), func(t *testing.T) {
			src := &gapped{canned: canned{paths: []string{"/t/x"}}, gap: gap}
			a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: src, CPU: -1}}})
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(10 * time.Second); a.Stats().Requests < 10; {
				if time.Now().After(end) {
					t.Fatal("the worker does not answer")
				}
			}
			closed := make(chan struct{})
			go func() { a.Close(); close(closed) }()
			await(t, closed, "Close does not end")
		})
	}
}

// A worker that stops answers what waits already, and not what is asked for ever.
func TestLastAnswers(t *testing.T) {
	for _, tc := range []struct{ waiting, want int }{{0, 0}, {7, 7}, {lastAnswers, lastAnswers}, {1 << 40, lastAnswers}} {
		src := &held{canned: canned{paths: []string{"/t/x"}}, first: true, more: tc.waiting}
		w := one(t, mustRules(t, testRules, 1), -1, src)
		w.arbiter.stop.Store(true)
		if !w.loop() {
			t.Error("the worker did not stop")
		}
		if got := w.counters.requests.Load(); got != uint64(tc.want) {
			t.Errorf("%d waiting: %d answered, want %d", tc.waiting, got, tc.want)
		}
	}
}

// An arbiter that never ran ends its subscriptions too.
func TestCloseBeforeStart(t *testing.T) {
	a, err := New(Config{Rules: mustRules(t, testRules, 1), Workers: []Worker{{Source: &canned{}, CPU: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	sub := a.Subscribe(1, SubscribeOptions{})
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case _, ok := <-sub.C:
		if ok {
			t.Error("an event came from nowhere")
		}
	default:
		t.Error("the subscription is still open")
	}
}

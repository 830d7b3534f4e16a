// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

func TestRuleSet(t *testing.T) {
	rs, err := rules.Load("bench.yaml", RuleSet(nativeRules, "/srv/bench"), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if rs.Len() != nativeRules {
		t.Errorf("got %d rules, want %d", rs.Len(), nativeRules)
	}
	if want := abi.FieldPath; rs.Consulted(abi.EventOpen)&want == 0 {
		t.Errorf("got facts %b of an open, want the path among them", rs.Consulted(abi.EventOpen))
	}
	r := &abi.Request{Event: abi.EventOpen, Access: abi.AccessRead}
	r.PathLen = uint32(copy(r.PathBuf[:], "/srv/bench/data/opened"))
	if d := rs.Decide(r); d.Rule != -1 || d.Verdict.Action != rules.Allow {
		t.Errorf("the bench's question: got %+v, want the default, allow", d)
	}
	r.PathLen = uint32(copy(r.PathBuf[:], "/srv/bench/secrets/0996.key"))
	if d := rs.Decide(r); rs.RuleID(d.Rule) != "rule-0996" || d.Verdict.Action != rules.Deny {
		t.Errorf("a secret: got rule %q, %+v, want rule-0996 to deny", rs.RuleID(d.Rule), d)
	}
}

// fakeQueue is the native queue with the in-process kernel side behind it.
type fakeQueue struct {
	k     *ringtest.Kernel
	facts ring.Facts
	path  string
	fault error
	lose  bool // the counters miss an ask
}

func newFakeQueue(t *testing.T) *fakeQueue {
	t.Helper()
	k, err := ringtest.New(1)
	if err != nil {
		t.Fatal(err)
	}
	return &fakeQueue{k: k}
}

func (q *fakeQueue) Sources() []*ring.Source { return q.k.Sources() }
func (q *fakeQueue) Configure([abi.EventCount]abi.Fields, [abi.EventCount]abi.Verdict) {
}
func (q *fakeQueue) SetQuestion(f ring.Facts, path, _ string) { q.facts, q.path = f, path }
func (q *fakeQueue) Close() error                             { return q.k.Close() }

func (q *fakeQueue) Run(_ int, took []uint64) (abi.Verdict, error) {
	for i := range took {
		begin := time.Now()
		q.k.Ask(q.facts, q.path, "")
		took[i] = uint64(time.Since(begin))
	}
	return abi.Verdict{}, q.fault
}

func (q *fakeQueue) Counts(e abi.Event) (kernelbridge.Counts, error) {
	c := q.k.Counts(e)
	asked := c.Asked.Load()
	if q.lose && asked > 0 {
		asked--
	}
	return kernelbridge.Counts{Asked: asked, Answered: c.Answered.Load()}, nil
}

func TestNativeSession(t *testing.T) {
	q := newFakeQueue(t)
	s, err := openNative(q, Place{Requester: 0, Responder: -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	o := RoundOptions{Warmup: 20, Budget: time.Minute}
	samples := make([]uint32, 2*nativeChunk+7)
	got, err := s.Round(o, samples)
	if want := (Outcome{Samples: len(samples)}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for i, ns := range samples {
		if ns == 0 {
			t.Fatalf("sample %d: got 0 ns, want a duration", i)
		}
	}
	if n := q.k.Counts(abi.EventOpen).Asked.Load(); n != uint64(len(samples)+o.Warmup) {
		t.Errorf("got %d asks, want %d and %d to warm up", n, len(samples), o.Warmup)
	}
	if s := s.engine.Stats(); s.Hits == 0 {
		t.Errorf("got no hits of the verdict cache in %d requests, want most of them", s.Requests)
	}

	q.k.Header().WaitNS = 0 // nobody is waited for
	q.fault = errors.New("the program is gone")
	if _, err := s.Round(o, samples[:1]); !errors.Is(err, q.fault) {
		t.Errorf("got %v, want the queue's error", err)
	}
}

func TestNativeSessionMiscount(t *testing.T) {
	q := newFakeQueue(t)
	s, err := openNative(q, Place{Requester: 0, Responder: -1}, true)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	q.lose = true
	if _, err := s.Round(RoundOptions{Budget: time.Minute}, make([]uint32, 10)); err == nil || !strings.Contains(err.Error(), "9") {
		t.Errorf("got %v, want an error about 9 of 10 asks", err)
	}
}

// lossyQueue is one of which a few asks of the second lot get no answer, as its counters say.
type lossyQueue struct {
	*fakeQueue
	looks int
	none  bool // nothing is answered any more
}

func (q *lossyQueue) Counts(e abi.Event) (kernelbridge.Counts, error) {
	c, err := q.fakeQueue.Counts(e)
	if q.looks++; q.looks > 2 { // before the round, and after its first lot
		c.Answered -= 5
	}
	if q.none {
		c.Answered = 0
	}
	return c, err
}

// A lot of which an ask failed counts once, and a round without any verdict is the slowest one.
func TestThroughputFailures(t *testing.T) {
	q := &lossyQueue{fakeQueue: newFakeQueue(t)}
	inner, err := openNative(q, Place{Requester: 0, Responder: -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	s := &throughputSession{inner, make([]uint64, throughputLot)}
	defer s.Close()
	samples := make([]uint32, 3)
	out, err := s.Round(RoundOptions{Warmup: 20, Budget: time.Minute}, samples)
	ns := out.Figures[FigureVerdictNS]
	if err != nil || out.Samples == 0 || out.Failed > 1 || out.Samples > 1 && out.Failed != 1 || ns <= 0 {
		t.Errorf("got %+v, %v, want the second lot failed and the others not", out, err)
	}
	q.none = true
	out, err = s.Round(RoundOptions{Budget: time.Minute}, samples)
	if got := out.Figures[FigureVerdictNS]; err != nil || out.Failed != out.Samples || got < 10*ns {
		t.Errorf("got %+v, %v, want lots that failed, and far more than %v ns for a verdict of which there was none", out, err, ns)
	}
}

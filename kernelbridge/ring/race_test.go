// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// startWorkers lets every source answer with verdict until the test ends.
func startWorkers(t *testing.T, r *ring.Ring, verdict func(worker int, q *abi.Request) abi.Verdict, replied func(q *abi.Request, inTime bool)) {
	t.Helper()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i, s := range r.Sources() {
		wg.Go(func() {
			var q abi.Request
			for !stop.Load() {
				if !s.Next(&q) {
					runtime.Gosched()
					continue
				}
				replied(&q, s.Reply(&q, verdict(i, &q)))
			}
		})
	}
	t.Cleanup(func() { stop.Store(true); wg.Wait() })
}

// Two workers race for every question, and its bit is set again behind their
// backs: exactly one takes it.
func TestTakeRace(t *testing.T) {
	const rounds = 3000
	r := newRing(t, 2)
	var taken [rounds]atomic.Int32
	var late atomic.Int32
	startWorkers(t, r,
		func(worker int, q *abi.Request) abi.Verdict {
			taken[q.Ino].Add(1)
			return abi.Verdict{Errno: uint16(worker + 1)}
		},
		func(_ *abi.Request, inTime bool) {
			if !inTime {
				late.Add(1)
			}
		})
	for round := range uint32(rounds) {
		const slot = 65
		post(r, slot, round, ring.Facts{Ino: uint64(round)}, "/")
		flag(r, slot)
		until(t, "an answer", func() bool { flag(r, slot); return word(r, slot).State() == abi.Done })
		w := word(r, slot)
		if n := taken[round].Load(); n != 1 || w.Gen() != round || w.Errno() < 1 || w.Errno() > 2 {
			t.Fatalf("question %d was taken %d times and answered with %d in generation %d", round, n, w.Errno(), w.Gen())
		}
	}
	if n := late.Load(); n != 0 {
		t.Errorf("%d answers were late, nobody gave up", n)
	}
}

// Requesters give up at any moment and their slot is used anew while a worker
// copies the facts. The copy may be a mixture; an answer to a mixture never
// arrives.
func TestNoAnswerToMixture(t *testing.T) {
	const rounds = 4000
	r := newRing(t, 2)
	var mixtures, inTimes, lates atomic.Int32
	errnoOf := func(n uint64) uint16 { return uint16(n%1000) + 1 }
	startWorkers(t, r,
		func(_ int, q *abi.Request) abi.Verdict { return abi.Verdict{Errno: errnoOf(q.Ino)} },
		func(q *abi.Request, inTime bool) {
			whole := len(q.Path()) == int(q.Ino%3000)+1 && q.Size == (abi.Size{Known: true, Bytes: q.Ino}) && uint32(q.Ino) == q.Word.Gen()
			for _, b := range q.Path() {
				whole = whole && b == byte(q.Ino)
			}
			switch {
			case inTime && !whole:
				mixtures.Add(1)
			case inTime:
				inTimes.Add(1)
			default:
				lates.Add(1)
			}
		})
	text := make([]byte, 3000)
	answered, abandoned := int32(0), int32(0)
	for gen := range uint32(rounds) {
		for i := range text {
			text[i] = byte(gen)
		}
		const slot = 200
		post(r, slot, gen, ring.Facts{Ino: uint64(gen), Mode: 0o100644, Size: int64(gen)}, string(text[:gen%3000+1]))
		// Wait for anything between nothing and the answer.
		switch gen % 4 {
		case 0:
			until(t, "an answer", func() bool { return word(r, slot).State() == abi.Done })
		case 1:
			until(t, "a worker", func() bool { return word(r, slot).State() != abi.Posted })
		case 2:
			runtime.Gosched()
		}
		if abandon(r, slot, gen) {
			abandoned++
			continue
		}
		if w := word(r, slot); w != abi.MakeWord(gen, abi.Done, errnoOf(uint64(gen))) {
			t.Fatalf("question %d: %s errno %d in generation %d, want done with %d", gen, w.State(), w.Errno(), w.Gen(), errnoOf(uint64(gen)))
		}
		answered++
	}
	until(t, "the last answers", func() bool { return inTimes.Load()+mixtures.Load() == answered })
	if n := mixtures.Load(); n != 0 {
		t.Errorf("%d answers to a mixture of two questions arrived", n)
	}
	if answered+abandoned != rounds || answered == 0 || abandoned == 0 {
		t.Errorf("%d answered, %d given up of %d; want some of each", answered, abandoned, rounds)
	}
	t.Logf("%d answered, %d given up, %d of these answered late", answered, abandoned, lates.Load())
}

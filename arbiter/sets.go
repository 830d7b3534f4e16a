// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"slices"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// installed is a rule set in force and why it came.
type installed struct {
	rules   *rules.RuleSet
	canary  *Canary // nil: rules decide for all
	reason  cache.Reason
	number  uint64 // counts from 1; the same set brought back has another
	decides uint64 // number of the first of those just before it that decide all as it does
}

// maxSets bounds the rule sets that are remembered for their records. There is one
// for each worker that may hang in a request, and room besides.
const maxSets = abi.MaxWorkers + 16

// put makes rs the current set. The stream knows it before any worker can decide by
// it. a.mu is held.
func (a *Arbiter) put(rs *rules.RuleSet, c *Canary, reason cache.Reason) *installed {
	next := &installed{rules: rs, canary: c, reason: reason, number: 1}
	before := a.current.Load()
	if before != nil {
		next.number = before.number + 1
	}
	next.decides = next.number
	if before != nil && reason == cache.Told && before.canary == c {
		next.decides = before.decides
	}
	a.stream.remember(next, before, a.workers)
	if before != nil && before.rules.Fingerprint() != rs.Fingerprint() {
		a.asks.forget()
	}
	a.current.Store(next)
	a.flushes[reason].Add(1)
	return next
}

// remember adds next to the sets by which records are named, and forgets those whose
// records have all been published: no worker will write another. before is the
// current set.
func (s *stream) remember(next, before *installed, workers []*worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(before, workers)
	if len(s.sets) == maxSets {
		// Sets come faster than records are collected, or a worker hangs.
		for _, w := range workers {
			for range maxRecords {
				if !s.publishNext(w) {
					break
				}
			}
		}
		s.forget(before, workers)
	}
	if len(s.sets) == maxSets {
		// A worker hangs: what it will write is of the set that it has adopted, and
		// then of the current one. The others were for nobody.
		i := slices.IndexFunc(s.sets, func(i *installed) bool {
			return !slices.ContainsFunc(workers, func(w *worker) bool { return w.adopted.Load() == i })
		})
		s.sets = slices.Delete(s.sets, i, i+1)
	}
	s.sets = append(s.sets, next)
}

// forget drops the sets that no record can be of any more. s.mu is held.
func (s *stream) forget(current *installed, workers []*worker) {
	if current == nil {
		return // there is no set yet
	}
	oldest := current.number
	for _, w := range workers {
		oldest = min(oldest, w.oldestRecord(current))
	}
	s.sets = slices.DeleteFunc(s.sets, func(i *installed) bool { return i.number < oldest })
}

// oldestRecord returns the number of the oldest set that the journal of w has or will
// have records of; it may be older than need be. stream.mu is held, so no record is
// on its way from the journal to its name.
func (w *worker) oldestRecord(current *installed) uint64 {
	// Before the look at the journal: when it is empty then, all records to come
	// are of this set or a later one. A parked worker loads the current one first.
	var decidesBy uint64
	if w.parked.Load() {
		decidesBy = current.number
	} else if a := w.adopted.Load(); a != nil {
		decidesBy = a.number
	}
	if w.journal.empty() {
		return max(decidesBy, w.published)
	}
	return w.published // sets follow each other in a journal as they were installed
}

// set returns the set of that number, nil if it was forgotten. s.mu is held.
func (s *stream) set(number uint64) *installed {
	for _, i := range slices.Backward(s.sets) {
		if i.number == number {
			return i
		}
	}
	return nil
}

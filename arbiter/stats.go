// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Stats is a snapshot of the engine's counters, all since Start.
//
// Requests = Hits + Decided + the sum of Failed + InFlight, at every moment:
// InFlight is at most one for each worker, and those that are held.
type Stats struct {
	Requests uint64 // taken from a Source
	InFlight uint64 // taken and not yet answered
	Held     uint64 // among them: that wait for a fact
	Holds    uint64 // how often a request began to wait for one
	Hits     uint64 // answered from the cache
	Decided  uint64 // answered by walking the rules
	Failed   [abi.ReasonCount]uint64

	Asked [AskedCount]uint64 // among Decided: whose rule asks somebody, by how it ended

	Allowed uint64 // answered allow, audited ones among them
	Denied  uint64 // answered with an errno
	Killed  uint64 // among them: the process that asked was killed
	Spared  uint64 // among them: it should have been, and could not
	Audited uint64 // allowed and recorded
	Late    uint64 // answers that found nobody waiting; among Hits, Decided or Failed too

	CacheFlushes [cache.ReasonCount]uint64
	CacheSkipped uint64 // decisions not cached: the key was too long

	EventsRecorded uint64 // handed to all who subscribe
	EventsDropped  uint64 // lost because a worker's journal was full
	// LastSeq is the sequence number of the last event: EventsRecorded + those of
	// EventsDropped that were passed over so far, which is all of them when the
	// journals are empty.
	LastSeq uint64

	Latency Latency // question to answer, as the worker sees it
	Workers []WorkerStats
}

// Latency summarises the time from the question to the answer; each figure is
// the upper end of its histogram bucket, at most 1/16 above the truth.
type Latency struct {
	Count                    uint64
	P50, P90, P99, P999, Max time.Duration
}

// WorkerStats is one worker's part.
type WorkerStats struct {
	CPU       int  // pinned to, -1 for none
	Displaced bool // that is not to be had: it runs on any other
	Parked    bool
	Requests  uint64
	Epoch     uint64 // of the rule set it decides by
}

// counters are one worker's. Written by that worker alone, read by anyone, so
// each word is atomic and the group has cache lines of its own.
type counters struct {
	_        [64]byte
	requests atomic.Uint64
	hits     atomic.Uint64
	decided  atomic.Uint64
	allowed  atomic.Uint64
	denied   atomic.Uint64
	killed   atomic.Uint64
	spared   atomic.Uint64
	audited  atomic.Uint64
	late     atomic.Uint64
	skipped  atomic.Uint64
	dropped  atomic.Uint64
	held     atomic.Uint64 // now
	holds    atomic.Uint64
	maxNS    atomic.Uint64
	failed   [abi.ReasonCount]atomic.Uint64
	latency  histogram
	_        [64]byte
}

// Stats returns a snapshot. It may be called from anywhere at any time and
// makes no worker wait.
func (a *Arbiter) Stats() Stats {
	s := Stats{Workers: make([]WorkerStats, len(a.workers))}
	var h histogramSum
	for i, w := range a.workers {
		c := &w.counters
		// First, because a worker records the latency last: all that it counted of
		// these answers is in the figures below.
		h.add(&c.latency, &c.maxNS)
		requests := s.addOutcomes(c)
		s.Requests += requests
		s.Late += c.late.Load()
		s.Killed += c.killed.Load()
		s.Spared += c.spared.Load()
		s.CacheSkipped += c.skipped.Load()
		s.EventsDropped += c.dropped.Load()
		s.Held += c.held.Load()
		s.Holds += c.holds.Load()
		s.Workers[i] = WorkerStats{CPU: w.cpu, Displaced: w.displaced.Load(), Parked: w.parked.Load(), Requests: requests, Epoch: w.epoch.Load()}
	}
	outcomes := s.Hits + s.Decided
	for _, n := range s.Failed {
		outcomes += n
	}
	s.InFlight = s.Requests - outcomes
	s.LastSeq, s.EventsRecorded = a.stream.counts()
	for r := range s.CacheFlushes {
		s.CacheFlushes[r] = a.flushes[r].Load()
	}
	for i := range s.Asked {
		s.Asked[i] = a.asks.counts[i].Load()
	}
	s.Latency = h.latency()
	return s
}

// statsTries bounds the retries of addOutcomes: at a million requests a second a
// read collides with about one in twenty.
const statsTries = 1000

// addOutcomes adds one worker's outcomes and returns how many requests it had
// taken at that moment: all of them have one of the outcomes, but for one that
// may be in flight. A request taken during the read starts it again.
func (s *Stats) addOutcomes(c *counters) (requests uint64) {
	var hits, decided, allowed, denied, audited uint64
	var failed [abi.ReasonCount]uint64
	for range statsTries {
		requests = c.requests.Load()
		hits, decided = c.hits.Load(), c.decided.Load()
		allowed, denied, audited = c.allowed.Load(), c.denied.Load(), c.audited.Load()
		for r := range failed {
			failed[r] = c.failed[r].Load()
		}
		if c.requests.Load() == requests {
			break
		}
	}
	outcomes := hits + decided
	for _, n := range failed {
		outcomes += n
	}
	// When no try was undisturbed the outcomes are of a later moment; each of them
	// had a request.
	requests = max(requests, outcomes)
	s.Hits += hits
	s.Decided += decided
	s.Allowed += allowed
	s.Denied += denied
	s.Audited += audited
	for r, n := range failed {
		s.Failed[r] += n
	}
	return requests
}

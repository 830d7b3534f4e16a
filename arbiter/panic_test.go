// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// replies is a source that ends after n requests and counts the answers; the first
// few panic.
type replies struct {
	ending
	event          abi.Event
	given, panicky int
}

func (s *replies) Next(r *abi.Request) bool {
	ok := s.ending.Next(r)
	r.Event = s.event
	return ok
}

func (s *replies) Reply(*abi.Request, abi.Verdict) bool {
	if s.panicky > 0 {
		s.panicky--
		panic("a bug in Reply")
	}
	s.given++
	return true
}

// A request is answered at most once and counted exactly once, wherever the worker
// panics.
func TestPanicsAddUp(t *testing.T) {
	const n = 3
	for _, tc := range []struct {
		name     string
		path     string
		event    abi.Event
		panicky  int
		entries  int
		answered int
		want     Stats
	}{
		{"after a decision", "/t/secret", abi.EventOpen, 0, -1, n, Stats{Decided: n}},
		{"after a hit", "/t/secret", abi.EventOpen, 0, 64, n, Stats{Decided: 1, Hits: n - 1}},
		{"after a failure verdict", "/t/x", abi.EventNone, 0, 64, n, Stats{Failed: failed(n)}},
		{"in an answer", "/t/x", abi.EventOpen, 1, -1, n, Stats{Failed: failed(1), Decided: n - 1}},
		{"in an answer and in its failure verdict", "/t/x", abi.EventOpen, 2, -1, n - 1, Stats{Failed: failed(1), Decided: n - 1}},
		{"in each", "/t/x", abi.EventOpen, 2 * n, -1, 0, Stats{Failed: failed(n)}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := &replies{ending: ending{canned: canned{paths: []string{tc.path}}, n: n}, event: tc.event, panicky: tc.panicky}
			w := one(t, mustRules(t, testRules, 1), tc.entries, src)
			src.arbiter = w.arbiter
			w.journal = nil // each record panics after the answer
			for calls := 0; !w.loop(); calls++ {
				if calls > 3*n {
					t.Fatal("the worker panics for ever")
				}
			}
			if src.given != tc.answered {
				t.Errorf("%d answers given, want %d", src.given, tc.answered)
			}
			got := w.arbiter.Stats()
			if got.Requests != n || got.InFlight != 0 || got.Hits != tc.want.Hits || got.Decided != tc.want.Decided || got.Failed != tc.want.Failed {
				t.Errorf("%d requests, %d in flight, %d hits, %d decided, failed %v; want %d, 0, %d, %d, %v",
					got.Requests, got.InFlight, got.Hits, got.Decided, got.Failed, n, tc.want.Hits, tc.want.Decided, tc.want.Failed)
			}
		})
	}
}

func failed(n uint64) (f [abi.ReasonCount]uint64) {
	f[abi.ReasonWorkerError] = n
	return f
}

// Counters of different moments do not underflow what is in flight.
func TestInFlightDoesNotUnderflow(t *testing.T) {
	w := one(t, mustRules(t, testRules, 1), -1, &canned{})
	w.counters.requests.Store(2)
	w.counters.hits.Store(3)
	w.counters.failed[abi.ReasonWorkerError].Store(1)
	if s := w.arbiter.Stats(); s.InFlight != 0 || s.Requests != 4 {
		t.Errorf("%d requests, %d in flight; want 4, 0", s.Requests, s.InFlight)
	}
}

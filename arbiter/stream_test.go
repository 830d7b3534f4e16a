// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"testing"
	"testing/synctest"
	"time"
)

// The first record is taken at once, those after it within restFor, and nobody is woken for
// them. Then the collector sleeps.
func TestCollectorRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := one(t, mustRules(t, testRules, 1), -1, &numbered{n: 100})
		s := w.arbiter.stream
		ended := make(chan struct{})
		go func() {
			s.collect(w.arbiter.workers)
			close(ended)
		}()
		check := func(when string, state int32, records uint64) {
			t.Helper()
			synctest.Wait()
			if _, recorded := s.counts(); recorded != records || s.state.Load() != state {
				t.Errorf("%s: %d records published and state %d, want %d and %d", when, recorded, s.state.Load(), records, state)
			}
		}
		check("nothing is there", asleep, 0)
		w.step()
		check("the first record", resting, 1)
		w.step()
		w.step()
		check("two more at once", resting, 1)
		<-time.After(restFor)
		check("restFor later", resting, 3)
		<-time.After(restFor)
		check("and once more", asleep, 3)
		w.step()
		check("the next one", resting, 4)
		w.step()
		s.stopCollector()
		<-ended
		check("the end", awake, 5)
	})
}

// A journal that fills up does not wait for the end of the rest.
func TestCollectorIsWokenForAFullJournal(t *testing.T) {
	w := one(t, mustRules(t, testRules, 1), -1, &numbered{n: maxRecords})
	s := w.arbiter.stream
	s.state.Store(resting)
	n := 0
	for ; s.state.Load() == resting && n < maxRecords; n++ {
		if len(s.wake) > 0 {
			t.Fatalf("woken for %d records", n)
		}
		w.step()
	}
	if dropped := w.counters.dropped.Load(); len(s.wake) != 1 || s.state.Load() != awake || dropped > 0 || n < 100 || n > 400 {
		t.Errorf("after %d records, %d of them lost: %d wake-ups and state %d, want one, and %d", n, dropped, len(s.wake), s.state.Load(), awake)
	}
	s.state.Store(resting)
	s.rest(w.arbiter.workers) // it filled up before anybody could see that it rests
	if s.state.Load() != awake || len(s.wake) != 1 {
		t.Errorf("a rest beside a full journal: state %d, %d wake-ups are left, want %d and 1", s.state.Load(), len(s.wake), awake)
	}
}

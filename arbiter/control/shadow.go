// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

const (
	// shadowBuffer is how many events may wait for the candidate: a second of those that
	// one can be asked about.
	shadowBuffer = 16384
	// The bounds of ShadowStart.PromoteWhenCleanFor.
	minCleanFor = time.Second
	maxCleanFor = 720 * time.Hour
	// promoteEvery is how often a candidate that wants to be promoted by itself is looked at.
	promoteEvery = time.Second
)

// ShadowStart is a candidate on its way.
type ShadowStart struct {
	Source        []byte
	Name          string
	ExpectedEpoch *uint64 // as in Push
	// PromoteWhenCleanFor, if not 0, puts it in force when it was clean for that long.
	PromoteWhenCleanFor time.Duration
	MinDecisions        uint64 // that it must have been clean for besides; 0 means 1
	BestEffort          bool   // as in Push
	Signature           []byte // as in Push
	Reason              string // for the history
	UID                 uint32 // who starts it
}

// shadow is a candidate that is asked about what the set in force has decided. It reads the
// event stream like any watcher: no worker and no task waits for it, and without one there
// is nothing of it.
type shadow struct {
	ShadowStart
	set, beside *rules.RuleSet
	sameScope   bool
	unseen      []string // events that it is about and beside does not ask about
	sub         *arbiter.Subscription
	lostBefore  func() uint64 // events that were lost for all who watch
	base        uint64        // of that, at the start
	started     time.Time
	stop, done  chan struct{}

	mu                              sync.Mutex
	tally                           *trial.Tally
	clean                           uint64    // decisions since the last trouble
	lastFlip, lastUnknown, lastLoss time.Time // zero: never
	lost                            uint64
	promotion                       string // why the last one by itself failed
	ended                           string // why; empty: it runs
	endedAt                         time.Time
	promoted                        uint64 // epoch
}

// newShadow is a candidate that has not been asked anything.
func newShadow(p ShadowStart, set, beside *rules.RuleSet) *shadow {
	s := &shadow{ShadowStart: p, set: set, beside: beside, stop: make(chan struct{}), done: make(chan struct{})}
	s.MinDecisions = max(s.MinDecisions, 1)
	s.sameScope = reflect.DeepEqual(set.Scope(), beside.Scope()) && reflect.DeepEqual(set.Mute(), beside.Mute())
	s.tally = trial.NewTally(trial.New(set, trial.Options{SameScope: s.sameScope, Cgroups: true}))
	return s
}

// missing returns which of the events, that the candidate is about, are not asked about.
func (s *shadow) missing(cannot map[abi.Event]string) (names []string) {
	asked := s.beside.Events()
	for _, e := range s.set.Events() {
		if _, ok := cannot[e]; !ok && !slices.Contains(asked, e) { // what cannot be asked about stays so
			names = append(names, e.String())
		}
	}
	return names
}

// run looks at events until the candidate ends; promote is called when it is to be put in
// force by itself.
func (s *shadow) run(promote func()) {
	defer close(s.done)
	defer s.sub.Close()
	var look <-chan time.Time
	if s.PromoteWhenCleanFor > 0 {
		tick := time.NewTicker(min(promoteEvery, s.PromoteWhenCleanFor/4))
		defer tick.Stop()
		look = tick.C
	}
	for {
		select {
		case <-s.stop:
			return
		case e, ok := <-s.sub.C:
			if !ok {
				s.end("the daemon stopped")
				return
			}
			s.add(e)
		case <-look:
			if len(s.blocks()) == 0 {
				promote()
			}
		}
	}
}

// add looks at one event. What was asked before the candidate's facts were collected, or
// decided by another set, is none of its business.
func (s *shadow) add(e *arbiter.Event) {
	if e.Time.Before(s.started) || e.Epoch != s.beside.Epoch() && e.Epoch != 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return
	}
	switch s.tally.Add(e) {
	case trial.Same, trial.Changed:
		s.clean++
	case trial.Flipped:
		s.clean, s.lastFlip = 0, time.Now()
	case trial.Unknown:
		s.clean, s.lastUnknown = 0, time.Now()
	}
}

// countLoss notices events that did not come. s.mu is held.
func (s *shadow) countLoss() {
	if s.ended != "" {
		return
	}
	if now := s.sub.Dropped() + s.lostBefore() - s.base; now > s.lost {
		s.lost, s.clean, s.lastLoss = now, 0, time.Now()
	}
}

// blocks returns what stands against a promotion now, in words.
func (s *shadow) blocks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countLoss()
	return s.blocked(time.Now())
}

// blocked is blocks at a time. s.mu is held. Without a time that it has to be clean for
// nothing is forgiven.
func (s *shadow) blocked(now time.Time) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	counts := func(last time.Time) bool {
		return !last.IsZero() && (s.PromoteWhenCleanFor == 0 || now.Sub(last) < s.PromoteWhenCleanFor)
	}
	for _, trouble := range []struct {
		what string
		n    uint64
		last time.Time
	}{
		{"decisions that it flips", s.tally.Flips(), s.lastFlip},
		{"decisions that it cannot tell", s.tally.Unknown(), s.lastUnknown},
		{"events that were lost before it could look at them", s.lost, s.lastLoss},
	} {
		if counts(trouble.last) {
			add("%s: %d, the last one %v ago", trouble.what, trouble.n, now.Sub(trouble.last).Round(time.Second))
		}
	}
	if s.clean < s.MinDecisions {
		add("clean decisions: %d, and %d are wanted, for idle time proves nothing", s.clean, s.MinDecisions)
	}
	if ran := now.Sub(s.started); ran < s.PromoteWhenCleanFor {
		add("it runs for %v, and %v are wanted", ran.Round(time.Second), s.PromoteWhenCleanFor)
	}
	for _, name := range s.unseen {
		add("it is about %s, which the rules in force do not ask about: nothing was seen of that", name)
	}
	if !s.sameScope {
		add("its scope or mute is another than that in force: of what only its own has nothing was seen")
	}
	return out
}

// cleanFor returns how long nothing was wrong. s.mu is held.
func (s *shadow) cleanFor(now time.Time) time.Duration {
	since := s.started
	for _, t := range []time.Time{s.lastFlip, s.lastUnknown, s.lastLoss} {
		if t.After(since) {
			since = t
		}
	}
	return now.Sub(since)
}

// end stops the candidate, for that reason, if it runs. It waits for nobody.
func (s *shadow) end(why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		return
	}
	s.countLoss()
	s.ended, s.endedAt = why, time.Now()
	close(s.stop)
	s.sub.Close() // at once, so that the kernel side may decide by itself again
}

// setEnded says why it has ended, once that is known better, and as which epoch it was promoted.
func (s *shadow) setEnded(why string, promoted uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.promoted = why, promoted
}

func (s *shadow) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended == ""
}

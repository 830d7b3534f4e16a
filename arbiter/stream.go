// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// SubscribeOptions says what a subscriber wants.
type SubscribeOptions struct {
	// Allowed asks for plain allowed requests too, not only for what was
	// refused, audited or failed. It makes every verdict a record.
	Allowed bool
	// Recent is how many past events to begin with, as far as they are kept.
	Recent int
}

// Subscription is one reader of the event stream.
type Subscription struct {
	// C carries the events in the order of their sequence numbers. It is closed
	// by Close and by the arbiter's Close.
	C <-chan *Event

	ch      chan *Event
	allowed bool
	dropped atomic.Uint64
	stream  *stream
}

// wants reports whether e is for this subscriber.
func (s *Subscription) wants(e *Event) bool {
	return s.allowed || e.Verdict != rules.Allow.String() || e.Reason != abi.ReasonNone || e.Late || e.Asked != ""
}

// Dropped returns how many events this subscriber has lost because its buffer
// was full. Each also shows as a gap in Seq, as does what was lost before it had
// come to any subscriber (Stats.EventsDropped), which is not counted here.
func (s *Subscription) Dropped() uint64 { return s.dropped.Load() }

// Close ends the subscription. It may be called more than once.
func (s *Subscription) Close() { s.stream.drop(s) }

// stream gives records one sequence and hands them out.
type stream struct {
	allowed atomic.Int32  // subscribers that want plain allowed requests
	state   atomic.Int32  // of the collector: awake, resting, asleep
	stop    atomic.Bool   // no worker will append any more
	wake    chan struct{} // buffer of one

	mu       sync.Mutex
	seq      uint64   // of the last event, or of the last loss behind it
	recorded uint64   // events published
	next     *Event   // for the next record: most looks into a journal find none
	recent   []*Event // ring of the last events; the oldest at recorded % len
	subs     map[*Subscription]struct{}
	closed   bool
	sets     []*installed // rule sets that journals may have records of, by number
	watched  func(bool)   // Config.Watched
}

func newStream(recent int) *stream {
	return &stream{wake: make(chan struct{}, 1), recent: make([]*Event, max(recent, 1)),
		subs: map[*Subscription]struct{}{}}
}

//go:nosplit
func (s *stream) wantsAllowed() bool { return s.allowed.Load() > 0 }

// What the collector is doing. A worker that has to wake it says awake for it, so that it is
// woken once, and wakes it afterwards.
const (
	awake   = iota
	resting // for restFor, less if a journal fills up
	asleep  // until it is woken
)

// restFor is how long the collector lets records gather while there are some: a thousand times
// a second is enough to wake it, which switches two threads in on a CPU that others want.
const restFor = time.Millisecond

// mustWake reports whether the collector has to be woken for a record that a journal has, or a loss:
// then the caller calls wakeUp. filling is what the journal says.
//
//go:nosplit
func (s *stream) mustWake(filling bool) bool {
	state := s.state.Load()
	return (state == asleep || state == resting && filling) && s.state.CompareAndSwap(state, awake)
}

// wakeUp wakes the collector.
func (s *stream) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default: // a wake-up is pending
	}
}

// collect drains the journals until it is stopped and they are empty.
func (s *stream) collect(workers []*worker) {
	some := false // there were records since it was asleep
	for {
		last := s.stop.Load() // before the look: what was appended until then is found
		if s.drain(workers) {
			some = true
			continue
		}
		if last {
			return
		}
		if some {
			some = false
			s.rest(workers)
			continue
		}
		// Say that we sleep, then look once more: a worker that appended before it could see that
		// is noticed here.
		s.state.Store(asleep)
		if s.drain(workers) {
			some = true
		} else {
			<-s.wake
		}
		s.state.Store(awake)
	}
}

// rest waits for restFor, no longer than until a journal fills up.
func (s *stream) rest(workers []*worker) {
	s.state.Store(resting)
	defer s.state.Store(awake)
	for _, w := range workers {
		if w.journal.filling() { // it was before its worker could see that we rest
			return
		}
	}
	select {
	case <-s.wake:
	case <-time.After(restFor):
	}
}

// drainBatch is how many records of one worker are published before the next
// worker's turn: one that is flooded must not cost the others their records.
const drainBatch = 64

// drain publishes records that are there now; false when there were none.
func (s *stream) drain(workers []*worker) bool {
	any := false
	for _, w := range workers {
		for range drainBatch {
			if !s.take(w) {
				break
			}
			any = true
		}
	}
	return any
}

// take is publishNext for a caller who does not hold s.mu.
func (s *stream) take(w *worker) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.publishNext(w)
}

// publishNext publishes the oldest record in the journal of w; false when there is
// none. The numbers of the records that were lost before it, or, if there is none, up
// to now, are passed over. s.mu is held.
func (s *stream) publishNext(w *worker) bool {
	// Before the look: when the journal is empty then, these were lost before
	// whatever will come.
	dropped := w.counters.dropped.Load()
	if s.next == nil {
		s.next = new(Event)
	}
	e := s.next
	o, ok := w.journal.next(e)
	if ok {
		dropped = o.dropped
		s.next = nil
	}
	s.seq += dropped - w.passed
	w.passed = dropped
	if !ok {
		return false
	}
	w.published = o.set
	e.Worker = w.index
	s.name(e, o)
	s.publish(e)
	return true
}

// name fills in what the rule set knows of the decision and of the request. s.mu is held.
func (s *stream) name(e *Event, o origin) {
	set := s.set(o.set)
	if set == nil {
		e.Facts &^= abi.FieldTree
		return
	}
	rs := set.of(e.Epoch)
	if e.Facts&abi.FieldTree != 0 {
		e.InTrees, e.NotInTrees = rs.InTrees(o.trees, o.marks)
	}
	if o.decision != noRule {
		e.Rule, e.Line, e.Message = rs.RuleID(o.decision), rs.Line(o.decision), rs.Message(o.decision)
		e.Fingerprint = rs.Fingerprint()
	}
}

// publish numbers e and hands it to all who want it. s.mu is held.
func (s *stream) publish(e *Event) {
	s.seq++
	s.recorded++
	e.Seq = s.seq
	if e.Time.IsZero() {
		e.Time = time.Now().Add(-time.Duration(detached.Now() - e.postedNS))
	}
	s.recent[s.recorded%uint64(len(s.recent))] = e
	for sub := range s.subs {
		if !sub.wants(e) {
			continue
		}
		select {
		case sub.ch <- e:
		default:
			sub.dropped.Add(1)
		}
	}
}

// counts returns the last sequence number and how many events have one.
func (s *stream) counts() (seq, recorded uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq, s.recorded
}

// stopCollector makes collect return after one last look. The workers have ended.
func (s *stream) stopCollector() {
	s.stop.Store(true)
	s.wakeUp()
}

// end closes all subscriptions; there will be no more.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for sub := range s.subs {
		s.remove(sub)
	}
}

func (s *stream) drop(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remove(sub)
}

// remove ends sub if it has not ended. s.mu is held.
func (s *stream) remove(sub *Subscription) {
	if _, ok := s.subs[sub]; !ok {
		return
	}
	delete(s.subs, sub)
	if sub.allowed && s.allowed.Add(-1) == 0 && s.watched != nil {
		s.watched(false)
	}
	close(sub.ch)
}

// Subscribe opens a reader with room for buffer events that it has not taken
// yet; when that is full, events are dropped and counted, and nobody waits.
func (a *Arbiter) Subscribe(buffer int, o SubscribeOptions) *Subscription {
	s := a.stream
	ch := make(chan *Event, max(buffer, min(o.Recent, len(s.recent)), 1))
	sub := &Subscription{C: ch, ch: ch, allowed: o.Allowed, stream: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		close(ch)
		return sub
	}
	n := min(uint64(max(o.Recent, 0)), s.recorded, uint64(len(s.recent)))
	for i := s.recorded - n + 1; i <= s.recorded; i++ {
		if e := s.recent[i%uint64(len(s.recent))]; sub.wants(e) {
			ch <- e
		}
	}
	s.subs[sub] = struct{}{}
	if sub.allowed && s.allowed.Add(1) == 1 && s.watched != nil {
		s.watched(true) // after the count: nothing is kept from here on
	}
	return sub
}

// Record puts an event that no worker knows of into the stream: a failure
// verdict that the kernel side gave by itself. Seq and, if zero, Time are set.
func (a *Arbiter) Record(e Event) {
	e.Worker = -1
	e.postedNS = detached.Now()
	a.stream.mu.Lock()
	defer a.stream.mu.Unlock()
	if !a.stream.closed {
		a.stream.publish(&e)
	}
}

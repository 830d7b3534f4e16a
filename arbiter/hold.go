// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// A request that lacks a fact, or that somebody is asked about, leaves its worker and comes
// back when that is there; the worker answers others meanwhile. Whoever fetches or answers
// puts a note into the worker's inbox and wakes it. All else is the worker's own: it takes
// the note, makes the request the one at hand again, and decides it by the rules that are in
// force then. A request ends once, because only its worker ends it: by a note, at its
// deadline, or when the arbiter stops.
//
// A note says which use of a place it is for, so one that comes late, or twice, or for a
// request that has ended, changes nothing.

// Fetcher has the content of files looked at.
type Fetcher interface {
	// Fetch has the facts of want, among abi.ContentFields, found out about the object of r
	// by another goroutine, which then calls Content of h. It does not block, and takes what
	// it needs of r before it returns. False: there is no room, and h will not be called.
	// Nobody waits for it any more after wait: it need not begin then.
	Fetch(h Held, r *abi.Request, want abi.Fields, wait time.Duration) bool
}

// Held names a request that its worker holds, to whoever fetches what it lacks. It may be
// used from anywhere at any time; all but the first use, and all after the request has
// ended, do nothing.
type Held struct {
	w     *worker
	index uint32
	gen   uint32
}

// Content says what is known of the content of the object, all of it as it was at one time. A
// fact that it lacks cannot be had, and the request gets the failure verdict if it depends on it.
func (h Held) Content(c abi.Content) {
	h.send(&note{kind: noteContent, content: c})
}

// send hands a note about a request to its worker.
func (h Held) send(n *note) {
	n.index, n.gen = h.index, h.gen
	h.w.holds.put(n)
	if h.w.parked.Load() {
		h.w.source.Wake()
	}
}

// note is what has become of a held request.
type note struct {
	index, gen uint32
	kind       noteKind
	content    abi.Content
	answer     Answer
	next       *note
}

type noteKind uint8

const (
	noteContent noteKind = iota
	noteAnswer
)

// place is where a worker keeps one held request.
type place struct {
	req  *abi.Request // of the request that is held, else of nothing
	held bool
	gen  uint32 // of the last use
	// since are the rules by which the request was taken: facts that they have no use for were
	// perhaps not fetched.
	since    *installed
	deadline int64          // CLOCK_MONOTONIC, nanoseconds
	decision rules.Decision // by which it is held
	missing  abi.Fields     // what was asked for before
	// Where somebody is asked: what the question is known by.
	asks bool
	key  askKey
}

// holds are the requests that one worker holds. All but inbox belong to it alone.
type holds struct {
	places []place // nil until the first is needed
	free   []uint32
	open   int
	due    int64 // the first deadline, or one before it
	turns  int   // of tend since the last look at the clock
	notes  *note // taken from the inbox, the first one first

	// inbox is a stack: put pushes, the worker takes all of it at once.
	inbox atomic.Pointer[note]
}

// put hands a note to the worker, from anywhere.
func (hs *holds) put(n *note) {
	for {
		n.next = hs.inbox.Load()
		if hs.inbox.CompareAndSwap(n.next, n) { // publishes all of n
			return
		}
	}
}

// take returns the next note, nil when there is none.
func (hs *holds) take() *note {
	if hs.notes == nil && hs.inbox.Load() != nil {
		for n := hs.inbox.Swap(nil); n != nil; {
			n, n.next, hs.notes = n.next, hs.notes, n
		}
	}
	n := hs.notes
	if n != nil {
		hs.notes = n.next
	}
	return n
}

// news reports whether there is a note.
func (hs *holds) news() bool { return hs.inbox.Load() != nil || hs.notes != nil }

// turnsPerLook is how many turns of a worker that holds requests pass between two looks at
// their deadlines: less than a millisecond, whatever its requests cost.
const turnsPerLook = 64

// tend takes one held request up again: one that a note has come for, or that is due. False:
// there is none.
func (w *worker) tend() bool {
	hs := &w.holds
	for n := hs.take(); n != nil; n = hs.take() {
		if p := &hs.places[n.index]; p.held && p.gen == n.gen {
			w.resume(n)
			return true
		}
	}
	if hs.turns++; hs.turns < turnsPerLook {
		return false
	}
	hs.turns = 0
	return w.expire(detached.Now())
}

// resume decides a held request anew, with what the note says.
func (w *worker) resume(n *note) {
	p := &w.holds.places[n.index]
	since, d := p.since, p.decision
	w.takeBack(n.index)
	switch {
	case n.kind == noteContent:
		w.missing |= d.Needs() // each fact is asked for once
		w.req.Learn(&n.content)
	case since.decides == w.live.decides:
		w.settle(d, Answered, n.answer)
		return
	}
	w.again(since)
}

// again decides the request at hand, which was taken by the rules of since.
func (w *worker) again(since *installed) {
	if w.lacks(since, w.req.Event) {
		w.fail(abi.ReasonFactsTruncated)
		return
	}
	w.answer()
}

// optional are the facts that a kernel side leaves out unless rules look at them.
const optional = abi.FieldExe | abi.FieldCgroup | abi.FieldAccess | abi.FieldAttributes | abi.FieldSize

// lacks reports whether the rules look at facts of an event that those before, by which the
// request was taken, may have had no use for.
func (w *worker) lacks(before *installed, e abi.Event) bool {
	return before != w.live && w.consulted[e]&^before.consulted(e)&optional != 0
}

// expire ends one request whose deadline has passed: with the failure verdict, or, where
// somebody was asked, with what stands then. False when there is none.
func (w *worker) expire(now int64) bool {
	hs := &w.holds
	if hs.open == 0 || now < hs.due {
		return false
	}
	hs.due = math.MaxInt64
	late := -1
	for i := range hs.places {
		p := &hs.places[i]
		switch {
		case !p.held:
		case p.deadline > now:
			hs.due = min(hs.due, p.deadline)
		case late < 0:
			late = i
		default:
			hs.due = now // the next turn's
		}
	}
	if late < 0 {
		return false
	}
	p := &hs.places[late]
	since, asks, d := p.since, p.asks, p.decision
	w.takeBack(uint32(late))
	switch {
	case !asks:
		w.fail(abi.ReasonDeadline)
	case since.decides == w.live.decides:
		w.settle(d, Unanswered, Answer{})
	default:
		w.again(since) // what the old rules say by default is no verdict any more
	}
	return true
}

// letGo gives all held requests their failure verdict: the worker ends.
func (w *worker) letGo() {
	for i := range w.holds.places {
		if w.holds.places[i].held {
			w.takeBack(uint32(i))
			w.fail(abi.ReasonNoWorker)
		}
	}
}

// takeBack makes a held request the one at hand.
func (w *worker) takeBack(index uint32) {
	hs := &w.holds
	p := &hs.places[index]
	if p.asks {
		w.arbiter.asks.leave(Held{w, index, p.gen}, p.key)
	}
	p.req, w.req = w.req, p.req
	p.held, p.since, p.asks = false, nil, false
	w.patience, w.missing = p.decision.Deadline, p.missing
	hs.free = append(hs.free, index)
	hs.open--
	w.taken = true
	if w.live.canary != nil {
		w.choose()
	}
	w.counters.held.Store(uint64(hs.open))
}

// hold sets the request at hand aside until what d depends on is known, or answered. Where
// that cannot be, it ends here.
func (w *worker) hold(d rules.Decision) {
	contents := w.arbiter.cfg.Contents
	switch {
	case w.arbiter.stop.Load():
		w.fail(abi.ReasonNoWorker)
		return
	case d.Verdict.Action == rules.Ask:
		w.ask(d)
		return
	case w.missing&d.Needs() != 0 || contents == nil:
		w.fail(notHad(d.Needs()))
		return
	}
	index, ok := w.holds.reserve()
	if !ok || !w.source.Hold(w.req) {
		w.fail(abi.ReasonRingFull)
		return
	}
	p := &w.holds.places[index]
	p.gen++ // before anybody is told
	// One that was held in time for another rule has that rule's time here, too.
	d.Deadline = max(d.Deadline, w.patience)
	if !contents.Fetch(Held{w, index, p.gen}, w.req, d.Needs(), d.Deadline-time.Duration(w.waited())) {
		w.fail(abi.ReasonRingFull)
		return
	}
	p.decision, p.missing = d, w.missing
	w.setAside(index, w.req.PostedNS+int64(d.Deadline))
}

// notHad is the reason of the failure verdict where a fact of the content cannot be had.
func notHad(f abi.Fields) abi.Reason {
	if f == abi.FieldScan {
		return abi.ReasonNoScan
	}
	return abi.ReasonNoDigest
}

// setAside puts the request at hand into the place that reserve has returned.
func (w *worker) setAside(index uint32, due int64) {
	// From here on nothing can panic, and the request is in its place.
	hs := &w.holds
	p := &hs.places[index]
	hs.free = hs.free[:len(hs.free)-1]
	p.req, w.req = w.req, p.req
	p.held, p.since, p.deadline = true, w.live, due
	if hs.open++; hs.open == 1 {
		hs.due = due
	}
	hs.due = min(hs.due, due)
	w.taken = false
	w.counters.holds.Add(1)
	w.counters.held.Store(uint64(hs.open))
}

// reserve returns a place to hold a request in, with memory for it; false when all are taken.
// It is taken when it is no longer the last of free.
func (hs *holds) reserve() (uint32, bool) {
	if hs.places == nil {
		hs.places = make([]place, abi.MaxHeld)
		hs.free = make([]uint32, abi.MaxHeld)
		for i := range hs.free { // the last one is used first, and again and again
			hs.free[i] = uint32(abi.MaxHeld - 1 - i)
			hs.places[i].gen = math.MaxUint32 // wraps around at the first use
		}
	}
	if len(hs.free) == 0 {
		return 0, false
	}
	index := hs.free[len(hs.free)-1]
	if p := &hs.places[index]; p.req == nil {
		p.req = new(abi.Request)
	}
	return index, true
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// What the cache has is answered while the worker is detached from the Go runtime: neither a
// collection of garbage nor a crowd of goroutines holds up who asks for it. All in this file
// but mayDetach keeps to what package detached says, and so does what it calls: worker.journalize,
// and journal.append with its parts.

// mayDetach reports whether there may be requests that Detached can answer.
func (w *worker) mayDetach() bool {
	return w.queue != nil && w.cache != nil && w.holds.open == 0 && w.live.canary == nil
}

// Detached answers requests for as long as the cache has the answers. It polls for them, and
// parks. A request that it has taken and not answered is left at hand.
//
//go:nosplit
func (w *worker) Detached() {
	for w.arbiter.current.Load() == w.live && !w.arbiter.stop.Load() && w.turn() {
		if !detached.Can {
			return // or the runtime would have to stop what has no place to be stopped at
		}
	}
}

// turn looks for a request once, and answers it if that can be done detached. False: there is
// something else to do.
//
//go:nosplit
func (w *worker) turn() bool {
	taken, served := w.queue.NextDetached(w.req)
	if taken {
		w.take()
		return w.answerHit() && !w.noteHit()
	}
	return served && (!w.idle() || w.parkDetached())
}

// answerHit answers the request at hand if the cache has the answer, it is not too late for that, and nobody
// is to be killed. The answer is left in w.hit for noteHit.
//
//go:nosplit
func (w *worker) answerHit() bool {
	r := w.req
	if r.Event == abi.EventNone || r.Event >= abi.EventCount {
		return false
	}
	want := w.consulted[r.Event]
	if !w.knowsFacts(want) {
		return false
	}
	d, _, hit := w.cache.Get(w.cacheKey(), w.live.number)
	if !hit || d.Verdict.Action >= rules.Kill || d.Deadline < w.wait && w.waited() > int64(d.Deadline) {
		return false
	}
	inTime := w.queue.ReplyDetached(r, abi.Verdict{Errno: d.Verdict.Errno, Keep: w.keeps(&d, want)})
	w.taken = false
	w.counters.hits.Add(1)
	w.hit = record{decision: d.Rule, verdict: d.Verdict, cached: true, inTime: inTime, waited: w.waited()}
	w.count(w.hit)
	return true
}

// noteHit journals the answer to a hit, if somebody is to be told. True: the collector is owed a wake-up.
// The journal needs much of the stack, and is written when what answerHit needed is given back.
//
//go:nosplit
func (w *worker) noteHit() bool {
	w.owes = !w.plain(w.hit) && w.journalize(&w.hit)
	return w.owes
}

// parkDetached parks, see park. False: that takes the runtime.
//
//go:nosplit
func (w *worker) parkDetached() bool {
	if !detached.Can {
		return false
	}
	w.parked.Store(true)
	served := w.queue.ParkDetached(parkFor)
	w.parked.Store(false)
	if served {
		w.polls, w.rest = 1, false
	}
	return served
}

// keeps reports whether the kernel side may decide as d by itself the next time: of what
// nobody is told. It cannot tell that a content is still the one that was looked at, nor whose
// a canary is.
//
//go:nosplit
func (w *worker) keeps(d *rules.Decision, want abi.Fields) bool {
	return d.Verdict.Action == rules.Allow && !d.Once && w.live.canary == nil && want&abi.ContentFields == 0 && !w.arbiter.stream.wantsAllowed()
}

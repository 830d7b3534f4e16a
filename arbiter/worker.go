// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// worker is one pinned loop. Fields without an atomic type belong to its
// goroutine alone.
type worker struct {
	arbiter *Arbiter
	index   int
	cpu     int
	source  Source
	queue   DetachedSource // the same, if it is one
	wait    time.Duration  // see Worker.Wait
	cache   *cache.Cache   // of all workers; nil when switched off
	journal *journal

	polls     int            // fruitless ones since the last request
	spinUntil int64          // when they end
	rest      bool           // see idle
	hit       record         // of the last hit, between answerHit and noteHit
	owes      bool           // the collector its wake-up, for a record that was made detached
	taken     bool           // req has no answer yet
	last      int            // answers given since the arbiter began to stop
	live      *installed     // what this worker decides by
	rules     *rules.RuleSet // of live, or of its canary: see choose
	mark      byte           // 0, or secondKey
	consulted [abi.EventCount]abi.Fields
	args      [abi.EventCount]uint8 // see rules.ConsultedArgs
	marks     uint64                // of the process trees that rules name
	key       key                   // scratch
	req       *abi.Request          // the one at hand
	missing   abi.Fields            // what was asked for it already
	patience  time.Duration         // the deadline of the rule that it was held for, 0 when it was not
	holds     holds

	// Written by the worker, read by Install and Stats.
	adopted atomic.Pointer[installed]
	epoch   atomic.Uint64
	parked  atomic.Bool
	looks   atomic.Uint64 // how often the worker found nothing, in pollsPerLook

	tid       int         // of its thread
	displaced atomic.Bool // its CPU is not to be had

	counters counters

	// Guarded by stream.mu.
	passed    uint64 // of counters.dropped, by the sequence
	published uint64 // number of the set of the last record taken from the journal
}

func newWorker(a *Arbiter, index int, w Worker) *worker {
	wk := &worker{arbiter: a, index: index, cpu: w.CPU, source: w.Source, wait: w.Wait, cache: a.cache,
		journal: newJournal(), req: new(abi.Request)}
	if wk.wait <= 0 {
		wk.wait = math.MaxInt64
	}
	wk.queue, _ = w.Source.(DetachedSource)
	return wk
}

// run pins the worker to its thread and CPU, reports on up, and answers
// requests until the arbiter stops.
func (w *worker) run(up chan<- error) {
	runtime.LockOSThread() // never unlocked: a pinned thread ends with its goroutine
	w.tid = unix.Gettid()
	if err := w.pin(); err != nil {
		up <- fmt.Errorf("pinning worker %d to CPU %d: %w", w.index, w.cpu, err)
		return
	}
	// A worker that others can push off its CPU holds up everyone who asks.
	// Without the privilege it runs as an ordinary thread.
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, workerNice)
	w.adopt(w.arbiter.current.Load())
	up <- nil
	for !w.loop() {
	}
}

// loop answers requests until the arbiter stops; then it returns true. False
// means that a bug ended it early: call it again. It begins with the failure verdict
// of the request at hand, if that has no answer.
func (w *worker) loop() (stopped bool) {
	defer func() {
		if p := recover(); p != nil {
			w.arbiter.cfg.Logger.Error("BUG: a worker panicked; its request gets the failure verdict if it has no answer",
				slog.Int("worker", w.index), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if w.taken {
		w.fail(abi.ReasonWorkerError)
	}
	for w.polls = 0; ; {
		if live := w.arbiter.current.Load(); live != w.live {
			w.adopt(live)
		}
		if w.arbiter.stop.Load() {
			if w.holds.open > 0 {
				w.letGo()
			}
			if w.last == lastAnswers {
				return true
			}
			w.last++
		}
		if w.holds.open > 0 && w.tend() {
			w.polls = 0
			continue
		}
		if w.mayDetach() {
			detached.Run(w) // Fast path: for as long as the cache has the answers.
			if w.owes {
				w.owes = false
				w.arbiter.stream.wakeUp()
			}
			if !w.taken && w.arbiter.current.Load() != w.live {
				w.rest = false
				continue // it returned for that
			}
		}
		if w.taken || w.source.Next(w.req) {
			if !w.taken {
				w.take()
			}
			if w.live.canary != nil {
				w.choose()
			}
			w.answer()
			continue
		}
		if w.arbiter.stop.Load() {
			if w.holds.open > 0 {
				continue // it has just been set: they are let go first
			}
			return true
		}
		if !w.rest && !w.idle() {
			continue
		}
		// Slow path: idle for a while.
		w.rest = false
		w.park()
		w.polls = 1 // woken for nothing it sleeps on: polling is for after a request
	}
}

// take begins with a request that has just been taken from the source.
//
//go:nosplit
func (w *worker) take() {
	w.taken, w.missing, w.patience = true, 0, 0
	w.polls, w.rest = 0, false
	w.counters.requests.Add(1)
}

// idle counts a fruitless poll, and reports whether it is time to park: rest.
//
//go:nosplit
func (w *worker) idle() bool {
	spin := w.arbiter.cfg.SpinFor
	if w.polls == 0 { // the first one after a request
		w.spinUntil = detached.Now() + int64(spin)
	}
	w.polls++
	if spin > 0 && w.polls%pollsPerLook != 0 {
		return false
	}
	w.looks.Add(1)
	w.rest = detached.Now() >= w.spinUntil
	return w.rest
}

// progress changes as long as the worker polls or answers.
func (w *worker) progress() uint64 { return w.looks.Load() + w.counters.latency.total() }

// workerNice is the scheduling priority of a worker's thread, the highest of the
// ordinary ones: it has work for microseconds and parks when there is none.
const workerNice = -20

// pollsPerLook is how many fruitless polls pass between two looks at the clock:
// some 2 µs.
const pollsPerLook = 64

// lastAnswers is how many requests a worker still answers when the arbiter stops:
// all that can be open in the queue, so that nobody who waits then has to wait for
// the failure verdict, and no more, however many go on asking.
const lastAnswers = abi.Slots

// parkFor bounds one Park, so that nothing that was missed is missed for long.
const parkFor = time.Second

// park blocks until there may be work. While parked is set Install counts this
// worker as having adopted whatever is current: it loads it before its next
// verdict, which the sequentially consistent order of the two words guarantees.
func (w *worker) park() {
	w.parked.Store(true)
	defer w.parked.Store(false) // also after a panic: it goes on working
	d := parkFor
	if w.holds.open > 0 {
		// After the store: who puts a note there after this look sees that we park.
		if w.holds.news() {
			return
		}
		d = min(d, time.Duration(w.holds.due-detached.Now()))
		w.holds.turns = turnsPerLook
	}
	if d > 0 {
		w.source.Park(d)
	}
}

// adopt makes live the set that this worker decides by. What is cached of others it will not find.
func (w *worker) adopt(live *installed) {
	w.live, w.mark = live, 0
	w.decideBy(live.rules)
	w.epoch.Store(live.rules.Epoch())
	w.adopted.Store(live)
}

// answer decides the request at hand, tells its source, and then does the
// accounting, when nobody waits any more.
func (w *worker) answer() {
	r := w.req
	if r.Event == abi.EventNone || r.Event >= abi.EventCount {
		w.fail(abi.ReasonWorkerError)
		return
	}
	want := w.consulted[r.Event]
	cache := w.cache
	if !w.knowsFacts(want) {
		// Slow path: as in the kernel side, rules that come first need not wait for facts that
		// others look at. The key would mix such requests up.
		if !w.rules.Sure(r) {
			w.fail(abi.ReasonFactsTruncated)
			return
		}
		cache = nil
	}

	key := w.cacheKey()
	var d rules.Decision
	var hash uint64
	hit := false
	if cache != nil {
		d, hash, hit = cache.Get(key, w.live.number)
	}
	if !hit {
		for d = w.rules.Decide(r); d.Once && !w.rules.Take(d.Rule); { // another worker was first
			d = w.rules.Decide(r)
		}
	}
	if d.Verdict.Action >= rules.Ask { // or a fact is needed
		// Slow path: it cannot be decided yet. That is cached, too, unless the rule decides once: when
		// it has, another one decides, perhaps without the fact.
		if !hit && cache != nil && !w.rules.Once(d.Rule) {
			cache.Put(key, hash, w.live.number, d)
		}
		w.hold(d)
		return
	}

	verdict, reason := d.Verdict, abi.ReasonNone
	if d.Deadline < w.wait && w.waited() > int64(max(d.Deadline, w.patience)) {
		verdict, reason = d.OnFail, abi.ReasonDeadline
	}
	pidfd := -1
	if verdict.Action == rules.Kill {
		pidfd = target(r)
	}
	inTime := w.source.Reply(r, abi.Verdict{Errno: verdict.Errno, Keep: reason == abi.ReasonNone && w.keeps(&d, want)})
	if verdict.Action == rules.Kill && !kill(pidfd, inTime) {
		verdict.Action = rules.Deny // which is all that came of it
		w.counters.spared.Add(1)
	}

	// Answered once and counted once: nothing in between can panic.
	w.taken = false
	c := &w.counters
	switch {
	case reason != abi.ReasonNone:
		c.failed[reason].Add(1)
	case hit:
		c.hits.Add(1)
	default:
		c.decided.Add(1)
		if inTime && cache != nil && !d.Once && !cache.Put(key, hash, w.live.number, d) {
			c.skipped.Add(1)
		}
	}
	w.account(record{decision: d.Rule, verdict: verdict, reason: reason, cached: hit, inTime: inTime, waited: w.waited()})
}

// knowsFacts reports whether the request at hand has those of the facts that can be wanting.
//
//go:nosplit
func (w *worker) knowsFacts(want abi.Fields) bool {
	r := w.req
	return (r.Flags&abi.FlagPathTruncated == 0 || want&abi.FieldPath == 0) &&
		(r.Flags&abi.FlagDetailTruncated == 0 || want&abi.FieldDetail == 0) &&
		(want&abi.FieldTree == 0 || w.knowsTrees()) &&
		(want&abi.FieldArgs == 0 || !r.LacksRole()) &&
		(want&abi.FieldCredentials == 0 || r.Credentials.Known)
}

// knowsTrees reports whether the marks of the request at hand tell of the process trees that
// the rules name. They do not when they were not read, or were before all that ran had those.
//
//go:nosplit
func (w *worker) knowsTrees() bool { return w.req.Marks >= w.rules.MarksSince() }

// waited returns how long ago the request at hand was posted, nanoseconds.
//
//go:nosplit
func (w *worker) waited() int64 { return max(detached.Now()-w.req.PostedNS, 0) }

// fail gives the request at hand the failure verdict of the rule set. It is tried
// once: if a bug keeps it from being given, the kernel side gives its own in time.
func (w *worker) fail(reason abi.Reason) {
	r := w.req
	w.taken = false
	w.counters.failed[reason].Add(1)
	verdict := w.rules.Default().OnFail
	inTime := w.source.Reply(r, abi.Verdict{Errno: verdict.Errno})
	w.account(record{decision: noRule, verdict: verdict, reason: reason, inTime: inTime, waited: w.waited()})
}

// account counts an answer that was given and journals it if it is worth it.
func (w *worker) account(rec record) {
	w.count(rec)
	if !w.plain(rec) {
		w.note(rec)
	}
}

// count counts an answer that was given.
//
//go:nosplit
func (w *worker) count(rec record) {
	c := &w.counters
	switch rec.verdict.Action {
	case rules.Deny:
		c.denied.Add(1)
	case rules.Kill:
		c.killed.Add(1)
		c.denied.Add(1)
	case rules.Audit:
		c.audited.Add(1)
		c.allowed.Add(1)
	default:
		c.allowed.Add(1)
	}
	if !rec.inTime {
		c.late.Add(1)
	}
	ns := uint64(rec.waited)
	if ns > c.maxNS.Load() {
		c.maxNS.Store(ns)
	}
	c.latency.record(ns) // last: see Stats
}

// plain reports whether nobody is told of an answer.
//
//go:nosplit
func (w *worker) plain(rec record) bool {
	return rec.verdict.Action == rules.Allow && rec.reason == abi.ReasonNone && rec.inTime && rec.asked == 0 && !w.arbiter.stream.wantsAllowed()
}

// note journals an answer to the request at hand.
func (w *worker) note(rec record) {
	if w.journalize(&rec) {
		w.arbiter.stream.wakeUp()
	}
}

// journalize journals an answer and reports whether the collector has to be woken: also for a loss,
// whose number is passed over.
//
//go:nosplit
func (w *worker) journalize(rec *record) (wake bool) {
	if !w.journal.append(w, rec) {
		w.counters.dropped.Add(1)
	}
	return w.arbiter.stream.mustWake(w.journal.filling())
}

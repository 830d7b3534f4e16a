// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// A rule whose verdict is ask holds its requests until somebody has answered. Requests that
// the rule cannot tell from each other, about the same file and by the same program, are one
// question. Workers put them and take them back at their time; who answers sends each request
// that waits a note. All of it is beside the workers' way: the lock is held for no longer than
// it takes to look something up.

const (
	// MaxAsks is how many questions can be open at once.
	MaxAsks = 256
	// MaxRemembered is how many answers are remembered at once.
	MaxRemembered = 4096
)

var (
	// ErrNoAsk is returned by Answer when no such question is open: it was answered, or its
	// time is over.
	ErrNoAsk = errors.New("no such question is open")
	// ErrManyRemembered is returned by Answer when the answer was given and cannot be
	// remembered.
	ErrManyRemembered = errors.New("the answer is given and not remembered: too many are already")
)

// Asked is how a request ended whose rule asks.
type Asked uint8

// The outcomes. Each has a counter and is a metric label.
const (
	NotAsked   Asked = iota // another verdict
	Answered                // somebody has answered
	Remembered              // by an answer that was given before
	Unanswered              // nobody has in time: the rule's default
	Unwatched               // nobody watches for questions: the rule's default, at once
	Overfull                // too much is held or asked already: the rule's default, at once
	AskedCount
)

var askedNames = [AskedCount]string{"", "answered", "remembered", "unanswered", "unwatched", "overfull"}

// String returns the outcome as metrics and events write it, "" for NotAsked.
func (a Asked) String() string {
	if a < AskedCount {
		return askedNames[a]
	}
	return "unknown"
}

// Ask is a question that is open.
type Ask struct {
	ID uint64 // never used again
	// Event has the facts of the first request that is asked about. Verdict and Errno are
	// what stands when nobody answers.
	Event Event
	Until time.Time // when the last request that waits gets that
	// Waiting is how many requests wait for the answer.
	Waiting int
}

// Answer is what somebody says to a question.
type Answer struct {
	Allow bool
	UID   uint32 // who says it
	// Remember is how long the same question has the same answer: 0 not at all, below 0 as
	// long as the daemon runs. Another rule set forgets it.
	Remember time.Duration
}

// askKey is what makes two requests the same question: the rule set, the rule, the facts that
// rules consult, path and executable.
type askKey [sha256.Size]byte

type question struct {
	Ask
	key     askKey
	waiting []Held
}

type memory struct {
	answer Answer
	until  time.Time // zero: for ever
}

// asks are the open questions of all workers.
type asks struct {
	mu         sync.Mutex
	last       uint64
	open       map[uint64]*question
	byKey      map[askKey]*question
	remembered map[askKey]memory
	watchers   map[chan struct{}]struct{}

	counts [AskedCount]atomic.Uint64
}

func newAsks() *asks {
	return &asks{open: map[uint64]*question{}, byKey: map[askKey]*question{}, remembered: map[askKey]memory{}, watchers: map[chan struct{}]struct{}{}}
}

// recall returns the answer that is remembered for a question.
func (s *asks) recall(key askKey) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.remembered[key]
	if ok && !m.until.IsZero() && time.Now().After(m.until) {
		delete(s.remembered, key)
		ok = false
	}
	return m.answer, ok
}

// put asks about a request. Answered: it is a question now, and h will hear of it; else why
// there is no use in waiting. e is only used for a question that is new.
func (s *asks) put(h Held, key askKey, until time.Time, e func() Event) Asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.watchers) == 0 {
		return Unwatched
	}
	q := s.byKey[key]
	if q == nil {
		if len(s.open) == MaxAsks {
			return Overfull
		}
		s.last++
		q = &question{Ask: Ask{ID: s.last, Event: e()}, key: key}
		s.open[q.ID], s.byKey[key] = q, q
	}
	q.waiting = append(q.waiting, h)
	if until.After(q.Until) {
		q.Until = until
	}
	s.changed()
	return Answered
}

// leave takes a request back that does not wait any more.
func (s *asks) leave(h Held, key askKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.byKey[key]
	if q == nil {
		return
	}
	q.waiting = slices.DeleteFunc(q.waiting, func(o Held) bool { return o == h })
	if len(q.waiting) == 0 {
		s.remove(q)
	}
	s.changed()
}

// remove ends a question; s.mu is held.
func (s *asks) remove(q *question) {
	delete(s.open, q.ID)
	delete(s.byKey, q.key)
}

// changed tells all who watch; s.mu is held.
func (s *asks) changed() {
	for c := range s.watchers {
		select {
		case c <- struct{}{}:
		default: // it has not looked since it was told before
		}
	}
}

// Asks returns the questions that are open, the oldest first.
func (a *Arbiter) Asks() []Ask {
	s := a.asks
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Ask, 0, len(s.open))
	for _, q := range s.open {
		q.Waiting = len(q.waiting)
		out = append(out, q.Ask)
	}
	slices.SortFunc(out, func(x, y Ask) int { return cmp.Compare(x.ID, y.ID) })
	return out
}

// WatchAsks says that somebody is there to answer, until end is called: only then are
// questions asked. Changed gets a message when Asks has changed since the last one.
func (a *Arbiter) WatchAsks() (changed <-chan struct{}, end func()) {
	s := a.asks
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers[c] = struct{}{}
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, c)
	}
}

// Answer answers a question, and returns how many requests have waited for it; one whose time
// ends in this moment gets the default all the same. The error is ErrNoAsk or
// ErrManyRemembered.
func (a *Arbiter) Answer(id uint64, answer Answer) (waited int, err error) {
	s := a.asks
	s.mu.Lock()
	q := s.open[id]
	if q == nil {
		s.mu.Unlock()
		return 0, ErrNoAsk
	}
	if answer.Remember != 0 {
		err = s.remember(q.key, answer)
	}
	s.remove(q)
	s.changed()
	s.mu.Unlock()
	for _, h := range q.waiting {
		h.send(&note{kind: noteAnswer, answer: answer})
	}
	return len(q.waiting), err
}

// remember keeps an answer; s.mu is held.
func (s *asks) remember(key askKey, a Answer) error {
	now := time.Now()
	if len(s.remembered) >= MaxRemembered {
		for k, m := range s.remembered {
			if !m.until.IsZero() && now.After(m.until) {
				delete(s.remembered, k)
			}
		}
	}
	if _, again := s.remembered[key]; !again && len(s.remembered) >= MaxRemembered {
		return ErrManyRemembered
	}
	m := memory{answer: a}
	if a.Remember > 0 {
		m.until = now.Add(a.Remember)
	}
	s.remembered[key] = m
	return nil
}

// forget drops the answers that are remembered: the rules are others.
func (s *asks) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.remembered)
}

// askKey returns what the question about the request at hand is known by.
func (w *worker) askKey(d rules.Decision) askKey {
	le := binary.LittleEndian
	key := append(le.AppendUint32(le.AppendUint64(nil, w.rules.Fingerprint()), uint32(d.Rule)), w.cacheKey()...)
	for i := range w.rules.Trees() {
		key = le.AppendUint64(key, w.rules.Mark(i)) // the same text can be in force with other bits
	}
	for _, text := range [][]byte{w.req.Path(), w.req.Exe()} {
		key = append(le.AppendUint32(key, uint32(len(text))), text...)
	}
	return sha256.Sum256(key)
}

// ask holds the request at hand until somebody has answered, or settles it at once.
func (w *worker) ask(d rules.Decision) {
	key := w.askKey(d)
	s := w.arbiter.asks
	if a, ok := s.recall(key); ok {
		w.settle(d, Remembered, a)
		return
	}
	index, ok := w.holds.reserve()
	if !ok || !w.source.Hold(w.req) {
		w.settle(d, Overfull, Answer{})
		return
	}
	p := &w.holds.places[index]
	p.gen++
	due := w.req.PostedNS + int64(d.Within())
	until := time.Now().Add(time.Duration(due - detached.Now()))
	if how := s.put(Held{w, index, p.gen}, key, until, func() Event { return w.question(d) }); how != Answered {
		w.settle(d, how, Answer{})
		return
	}
	p.asks, p.decision, p.key, p.missing = true, d, key, w.missing
	w.setAside(index, due)
}

// question is the request at hand as an event, with the verdict that stands when nobody
// answers.
func (w *worker) question(d rules.Decision) Event {
	r, v, rs := w.req, d.Verdict.Unanswered(), w.rules
	e := Event{Time: time.Now().Add(-time.Duration(w.waited())), Event: r.Event, Access: r.Access, Verdict: v.Action.String(), Errno: v.Errno,
		Rule: rs.RuleID(d.Rule), Line: rs.Line(d.Rule), Message: rs.Message(d.Rule), Epoch: rs.Epoch(), Fingerprint: rs.Fingerprint(), Worker: w.index,
		TGID: r.TGID, TID: r.TID, UID: r.UID, GID: r.GID, StartBoottime: r.StartBoottime,
		Comm: unix.ByteSliceToString(r.Comm[:]), Exe: string(r.Exe()), Path: string(r.Path()), Dev: r.Dev, Ino: r.Ino,
		Detail: string(r.Detail()), Args: r.Arg}
	e.look(r)
	e.Attributes, e.Size, e.Credentials = r.Attributes(), r.Size, r.Credentials
	return e
}

// settle ends the request at hand, whose rule asks, by an answer or by the rule's default.
func (w *worker) settle(d rules.Decision, how Asked, a Answer) {
	v := d.Verdict.Unanswered()
	if how == Answered || how == Remembered {
		refusal := v.Errno
		if refusal == 0 {
			refusal = uint16(unix.EPERM)
		}
		if v = (rules.Verdict{Action: rules.Deny, Errno: refusal}); a.Allow {
			v = rules.Verdict{Action: rules.Allow}
		}
	}
	inTime := w.source.Reply(w.req, abi.Verdict{Errno: v.Errno})
	w.taken = false
	w.counters.decided.Add(1)
	w.arbiter.asks.counts[how].Add(1)
	w.account(record{decision: d.Rule, verdict: v, asked: uint64(how) | uint64(a.UID)<<32, inTime: inTime, waited: w.waited()})
}

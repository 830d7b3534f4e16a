// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// lifespan says when a rule counts. The zero value is always.
type lifespan struct {
	kind    lifeKind
	long    time.Duration // of forTime, from the push on
	expires time.Time     // zero: never
	times   []window      // any of; nil is all day long
}

type lifeKind uint8

const (
	forever     lifeKind = iota
	untilReboot          // of the machine, from the push on
	session              // until the daemon that it was pushed to ends
	once                 // until it has decided once, a session at most
	forTime              // for so long
)

var lifeNames = [...]string{forever: "forever", untilReboot: "until-reboot", session: "session", once: "once"}

func (l *lifespan) always() bool { return l.kind == forever && l.expires.IsZero() && l.times == nil }

// window is a part of some days of the week.
type window struct {
	days     uint8         // bit 0 is Sunday, as time.Weekday
	from, to time.Duration // since midnight by the wall clock, whole minutes; to is above from, and above 24 h when it is on the next day
	zone     *time.Location
}

// bounds returns when the window opens and closes that begins so many days after now, and
// whether there is one.
func (w *window) bounds(now time.Time, days int) (opens, closes time.Time, ok bool) {
	y, m, d := now.In(w.zone).Date()
	at := func(since time.Duration) time.Time {
		return time.Date(y, m, d+days, 0, int(since/time.Minute), 0, 0, w.zone) // as the clocks on the wall show it
	}
	weekday := time.Date(y, m, d+days, 12, 0, 0, 0, time.UTC).Weekday()
	return at(w.from), at(w.to), w.days>>weekday&1 != 0
}

// Moment is when a rule set is looked at, and what has happened since it was pushed.
type Moment struct {
	Now, PushedAt time.Time // by the clock on the wall
	// Passed is how long ago the push was at least, by a clock that nobody sets.
	Passed time.Duration
	// Rebooted: the machine has been started since. Restarted: the daemon has.
	Rebooted, Restarted bool
}

// over says why a lifespan has ended for good, "" if it has not. Of two clocks the one that
// says so first is believed, the wall's or the one that nobody sets: so setting the wall's back
// makes no rule live longer.
func (l *lifespan) over(m *Moment) string {
	switch {
	case l.kind == untilReboot && m.Rebooted:
		return "the machine has been started again since the push"
	case (l.kind == session || l.kind == once) && m.Restarted:
		return "the daemon has been started again since the push"
	case l.kind == forTime && max(m.Passed, m.Now.Sub(m.PushedAt)) >= l.long:
		return fmt.Sprintf("%v have passed since the push", l.long)
	case !l.expires.IsZero() && (!m.Now.Before(l.expires) || m.Passed >= l.expires.Sub(m.PushedAt)):
		return "it expired on " + l.expires.UTC().Format(time.DateTime) + " UTC"
	}
	return ""
}

// at says why the rule does not count now, "" if it does, and when that may change; the zero
// time for never.
func (l *lifespan) at(m *Moment) (why string, next time.Time) {
	if why := l.over(m); why != "" {
		// As long as only the clock on the wall says so, it can be set and say otherwise.
		unset := *m
		unset.Now = m.PushedAt
		if l.over(&unset) == "" {
			return why, m.Now.Add(wallAgain)
		}
		return why, time.Time{}
	}
	soonest := func(t time.Time) {
		if t.After(m.Now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if l.kind == forTime {
		soonest(m.Now.Add(l.long - max(m.Passed, m.Now.Sub(m.PushedAt))))
	}
	if !l.expires.IsZero() {
		soonest(l.expires)
	}
	open := l.times == nil
	for i := range l.times {
		w := &l.times[i]
		for day := -1; day <= 8; day++ { // the one that began yesterday, and up to the same day next week
			opens, closes, ok := w.bounds(m.Now, day)
			if !ok {
				continue
			}
			open = open || !m.Now.Before(opens) && m.Now.Before(closes)
			soonest(opens)
			soonest(closes)
		}
	}
	if !open {
		why = "it is not the time for it"
	}
	return why, next
}

// wallAgain is when what the clock on the wall alone says is looked at again.
const wallAgain = 30 * time.Second

// timed is a rule that does not always count.
type timed struct {
	rule int32
	lifespan
	spent *atomic.Bool // of one of the lifespan once: it has decided
}

// Take reports whether this is the one decision that a rule of the lifespan once may make, and
// has it match no more. True for every other rule.
func (rs *RuleSet) Take(i int32) bool {
	t := rs.timedRule(i)
	return t == nil || t.spent == nil || t.spent.CompareAndSwap(false, true)
}

func (rs *RuleSet) timedRule(i int32) *timed {
	n, ok := slices.BinarySearchFunc(rs.timed, i, func(t timed, i int32) int { return cmp.Compare(t.rule, i) })
	if !ok {
		return nil
	}
	return &rs.timed[n]
}

// spent reports whether rule i, of the lifespan once, has decided.
func (rs *RuleSet) spent(i int32) bool { return rs.timedRule(i).spent.Load() }

// Timed reports whether there is a rule that does not always count: then At can say something
// else from one moment to the next.
func (rs *RuleSet) Timed() bool { return len(rs.timed) > 0 }

// Lives reports whether there is a rule with a lifespan: then it matters when it was pushed.
func (rs *RuleSet) Lives() bool {
	return slices.ContainsFunc(rs.timed, func(t timed) bool { return t.kind != forever })
}

// Whole returns the set that At, WithMarks or Telling made this one from.
func (rs *RuleSet) Whole() *RuleSet {
	if rs.whole != nil {
		return rs.whole
	}
	return rs
}

// At returns the set as it is at a moment: rules whose time it is not do not match. It has the
// epoch and the fingerprint of the whole, and asks about the same events. It is the receiver
// itself if that is the same. next is when it may be another one, zero for never.
func (rs *RuleSet) At(m Moment) (at *RuleSet, next time.Time) {
	off := map[int32]string{}
	for i := range rs.timed {
		t := &rs.timed[i]
		why, change := t.at(&m)
		if why != "" {
			off[t.rule] = why
		}
		if !change.IsZero() && (next.IsZero() || change.Before(next)) {
			next = change
		}
	}
	if sameKeys(off, rs.off) {
		return rs, next
	}
	c := *rs
	c.whole, c.off = rs.Whole(), off
	c.lists = [abi.EventCount]list{}
	c.list()
	c.classify(few)
	return &c, next
}

func sameKeys(a, b map[int32]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k := range a {
		if _, ok := b[k]; !ok {
			return false
		}
	}
	return true
}

// Off returns how many rules do not match at the moment that the set was made for.
func (rs *RuleSet) Off() int { return len(rs.off) }

// Ending names the rules whose lifespan ends for good within a time, in the order of the file.
func (rs *RuleSet) Ending(m Moment, within time.Duration) (out []string) {
	then := m
	then.Now, then.Passed = m.Now.Add(within), m.Passed+within
	for i := range rs.timed {
		t := &rs.timed[i]
		if t.over(&m) == "" && t.over(&then) != "" {
			out = append(out, fmt.Sprintf("rule %s on line %d counts for less than %v more", rs.RuleID(t.rule), rs.Line(t.rule), within))
		}
	}
	return out
}

// Over names the rules whose lifespan has ended for good, each with the reason, in the order
// of the file.
func (rs *RuleSet) Over(m Moment) (out []string) {
	for i := range rs.timed {
		t := &rs.timed[i]
		if why := t.over(&m); why != "" {
			out = append(out, fmt.Sprintf("rule %s on line %d does not count any more: %s", rs.RuleID(t.rule), rs.Line(t.rule), why))
		}
	}
	return slices.Clip(out)
}

// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"cmp"
	"slices"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// MaxGroups bounds the groups of a tally, and with it what it keeps: a group has one
// record, which can be 12 KiB. Changes that are no flips get half of them at most.
const MaxGroups = 256

// Tally counts what a candidate decides otherwise. It is for one goroutine.
type Tally struct {
	Records  uint64 // all that Add was given
	Decided  uint64 // those that were compared
	Changes  [KindCount]uint64
	Late     uint64 // answers that came too late, so that a failure verdict stands
	Failures [abi.ReasonCount + 1]uint64
	// Foreign are records that no rule set has decided, such as refusals of the
	// self-protection, and those of events that this version does not know.
	Foreign    uint64
	CannotTell map[abi.Fields]uint64 // by the facts that are missing
	// Own are decisions of this very rule set, if its rules have no lifespan, and Broken those of them that came out
	// otherwise: there must be none.
	Own, Broken uint64
	// Others are changes in groups that there was no room for.
	Others uint64

	candidate *Candidate
	groups    map[groupKey]*Group
	rules     int // groups of the kind Rule
}

// Group are changes of one kind, by the same rules and of the same program.
type Group struct {
	Kind          Kind
	Before, After Outcome
	Program       string // the subject's executable, foreign bytes
	Count         uint64
	Sample        *arbiter.Event // the first
}

// groupKey has no line: rules are known by their ids.
type groupKey struct {
	kind          Kind
	before, after Outcome
	program       string
}

// NewTally returns an empty one.
func NewTally(c *Candidate) *Tally {
	return &Tally{candidate: c, CannotTell: map[abi.Fields]uint64{}, groups: map[groupKey]*Group{}}
}

// Result is what Add found.
type Result uint8

// The results.
const (
	Same       Result = iota
	Changed           // and whoever asked would not notice
	Flipped           // and whoever asked would
	Unknown           // it cannot be told
	NoDecision        // the record is of none
)

// Add decides the recorded request again and counts. It keeps e if it is the first of its
// group.
func (t *Tally) Add(e *arbiter.Event) Result {
	t.Records++
	switch {
	case e.Late:
		t.Late++
		return NoDecision
	case e.Reason != abi.ReasonNone:
		t.Failures[min(e.Reason, abi.ReasonCount)]++
		return NoDecision
	case e.Epoch == 0 || e.Event == abi.EventNone || e.Event >= abi.EventCount:
		t.Foreign++
		return NoDecision
	}
	after, missing := t.candidate.Decide(e)
	if missing != 0 {
		t.CannotTell[missing]++
		return Unknown
	}
	before := recorded(e)
	if after.Verdict.Action == rules.Ask {
		if before.Rule != after.Rule || e.Asked == "" {
			t.CannotTell[0]++ // what somebody would have answered
			return Unknown
		}
		after.Verdict = before.Verdict
	}
	t.Decided++
	kind, changed := compare(&before, &after)
	if e.Fingerprint == t.candidate.rules.Fingerprint() && !t.candidate.rules.Lives() { // else nobody knows since when
		t.Own++
		if changed {
			t.Broken++
		}
	}
	if !changed {
		return Same
	}
	t.Changes[kind]++
	t.group(kind, before, after, e)
	if kind.Flip() {
		return Flipped
	}
	return Changed
}

func (t *Tally) group(kind Kind, before, after Outcome, e *arbiter.Event) {
	key := groupKey{kind, before, after, e.Exe}
	key.before.Line, key.after.Line = 0, 0
	g := t.groups[key]
	if g == nil {
		if len(t.groups) == MaxGroups || kind == Rule && t.rules == MaxGroups/2 {
			t.Others++
			return
		}
		if kind == Rule {
			t.rules++
		}
		g = &Group{Kind: kind, Before: before, After: after, Program: e.Exe, Sample: e}
		t.groups[key] = g
	}
	g.Count++
}

// Flips returns how many decisions whoever asked would notice.
func (t *Tally) Flips() (n uint64) {
	for k := Kind(0); k < KindCount; k++ {
		if k.Flip() {
			n += t.Changes[k]
		}
	}
	return n
}

// Unknown returns how many decisions cannot be told.
func (t *Tally) Unknown() (n uint64) {
	for _, m := range t.CannotTell {
		n += m
	}
	return n
}

// Failed returns how many failure verdicts there are, late answers among them.
func (t *Tally) Failed() uint64 {
	n := t.Late
	for _, m := range t.Failures {
		n += m
	}
	return n
}

// FailuresByName returns them by their reasons, late answers under "late".
func (t *Tally) FailuresByName() map[string]uint64 {
	out := map[string]uint64{}
	for reason, n := range t.Failures {
		if n > 0 {
			out[abi.Reason(reason).String()] = n
		}
	}
	if t.Late > 0 {
		out["late"] = t.Late
	}
	return out
}

// Groups returns copies of the groups: flips first, then by how many, then by what came
// first.
func (t *Tally) Groups() []Group {
	out := make([]Group, 0, len(t.groups))
	for _, g := range t.groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b Group) int {
		flip := func(k Kind) int {
			if k.Flip() {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(flip(a.Kind), flip(b.Kind)), cmp.Compare(b.Count, a.Count), a.Sample.Time.Compare(b.Sample.Time),
			cmp.Compare(a.Sample.Seq, b.Sample.Seq))
	})
	return out
}

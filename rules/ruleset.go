// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"slices"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// RuleSet is a compiled rule file. It is immutable and safe for concurrent use.
type RuleSet struct {
	settings
	source      packed
	epoch       uint64
	fingerprint uint64
	fallback    Decision // what decides when no rule does
	pool
	all   []matcher
	about []about  // of each rule
	sums  []uint64 // of the text of each rule, see textSums
	named eventSet // that rules are about
	lists [abi.EventCount]list
	nodes []*node // of the classifiers, by ref

	timed []timed          // by rule
	whole *RuleSet         // the one that At, WithMarks or Telling made this one from, nil for none
	off   map[int32]string // rules that do not match now, with the reason

	marks      []uint64 // of the process trees, by the kernel side; nil: bit i of tree i
	marksSince uint32
	told       []toldTree
}

// list is what one event is decided by.
type list struct {
	rules     []int32 // of all, in order
	root      *node   // the same, filed; nil when there are none
	consulted abi.Fields
	args      uint8            // bit i: Request.Arg[i] is consulted
	kernel    []abi.KernelRule // see KernelRules
}

// about is what people want to know of a rule.
type about struct {
	events          eventSet
	id              uint32 // in pool.text
	line            uint32
	note            uint32 // of pool.notes
	idLen           uint8
	deadlineWritten bool // it has one of its own
}

func newRuleSet(s settings) *RuleSet {
	return &RuleSet{settings: s, fallback: Decision{Verdict: s.def, Rule: -1, Deadline: s.deadline, OnFail: s.onFail}}
}

// Nothing returns the rule set of a daemon that was given none: it has no scope, so
// nothing is arbitrated, and it allows. Its epoch is 0, which no pushed set has.
func Nothing() *RuleSet {
	f := &File{settings: settings{name: "nothing", deadline: DefaultDeadline}}
	rs := newRuleSet(f.settings)
	rs.fingerprint = fingerprint(f)
	return rs
}

// Epoch returns the number of this rule set in the order of pushes.
func (rs *RuleSet) Epoch() uint64 { return rs.epoch }

// WithEpoch returns the same rule set with another epoch.
func (rs *RuleSet) WithEpoch(epoch uint64) *RuleSet {
	c := *rs
	c.epoch = epoch
	return &c
}

// Fingerprint returns a hash of what the rule set says; formatting, comments and
// the order of fields do not change it. It tells rule sets apart for people and
// logs and is no protection against somebody who makes two of them collide.
func (rs *RuleSet) Fingerprint() uint64 { return rs.fingerprint }

// Name returns the name of the file, as it was given to Parse.
func (rs *RuleSet) Name() string { return rs.name }

// Scope returns what the rule set is about. Its slices must not be modified.
func (rs *RuleSet) Scope() Scope { return rs.scope }

// Source returns the text that was parsed. That of a large file is unpacked for it, which
// takes time and memory.
func (rs *RuleSet) Source() []byte { return rs.source.bytes() }

// SourceIs reports whether src is the text that was parsed, which is unpacked only if it is likely.
func (rs *RuleSet) SourceIs(src []byte) bool { return rs.source.is(src) }

// SameSource reports whether both were compiled from the same text.
func (rs *RuleSet) SameSource(as *RuleSet) bool {
	return rs.source.same(&as.source)
}

// SourceLen returns how many bytes the text has.
func (rs *RuleSet) SourceLen() int { return rs.source.len }

// Len returns the number of rules.
func (rs *RuleSet) Len() int { return len(rs.all) }

// Default returns the decision that is made when no rule matches: Rule is -1.
func (rs *RuleSet) Default() Decision { return rs.fallback }

// RuleID returns the id of rule i as in Decision.Rule: "default" for -1 and for
// a number that is none of a rule.
func (rs *RuleSet) RuleID(i int32) string {
	if a := rs.rule(i); a != nil {
		return rs.text[a.id : a.id+uint32(a.idLen)]
	}
	return "default"
}

// Message returns the message of rule i, "" when it has none and for the default.
func (rs *RuleSet) Message(i int32) string { return rs.Note(i).Message }

// Note returns what rule i says to people, empty for the default.
func (rs *RuleSet) Note(i int32) Note {
	if a := rs.rule(i); a != nil {
		return rs.notes[a.note]
	}
	return Note{}
}

// Line returns the line on which rule i begins, 0 for the default.
func (rs *RuleSet) Line(i int32) int {
	if a := rs.rule(i); a != nil {
		return int(a.line)
	}
	return 0
}

// RuleAt returns the first rule that begins on a line, -1 when none does.
func (rs *RuleSet) RuleAt(line int) int32 {
	i, ok := slices.BinarySearchFunc(rs.about, line, func(a about, line int) int { return cmp.Compare(int(a.line), line) })
	if !ok {
		return -1
	}
	return int32(i)
}

func (rs *RuleSet) rule(i int32) *about {
	if i < 0 || int(i) >= len(rs.about) {
		return nil
	}
	return &rs.about[i]
}

// Events returns the events that are to be asked about: those that some rule is about,
// those that the file lists, and open and exec when the default is not allow.
func (rs *RuleSet) Events() []abi.Event {
	set := rs.listed
	if rs.fallback.Verdict.Action != Allow {
		set |= setOf(abi.EventOpen, abi.EventExec)
	}
	return (set | rs.named).list()
}

// Listed returns the events that the file lists for the default.
func (rs *RuleSet) Listed() []abi.Event { return rs.listed.list() }

// OnFail returns the failure verdict of rule i as in Decision.Rule: for -1, and for
// a number that is none of a rule, that of the file.
func (rs *RuleSet) OnFail(i int32) Verdict {
	if rs.rule(i) != nil {
		return rs.thens[rs.all[i].then].OnFail
	}
	return rs.onFail
}

// WrittenDeadline returns the deadline that is written in rule i, or for -1 in the
// file outside of rules; false when none is, so that it is inherited.
func (rs *RuleSet) WrittenDeadline(i int32) (time.Duration, bool) {
	if a := rs.rule(i); a != nil {
		return rs.thens[rs.all[i].then].Deadline, a.deadlineWritten
	}
	return rs.deadline, rs.deadlineWritten
}

// MaxDeadline returns the longest deadline of any rule and the default.
func (rs *RuleSet) MaxDeadline() time.Duration {
	longest := rs.fallback.Deadline
	for i := range rs.thens {
		longest = max(longest, rs.thens[i].Deadline)
	}
	return longest
}

// Consulted returns the facts that Decide may look at in a request of this
// event; the others need not be filled in, and two requests that agree in these
// get the same decision. FieldUID stands for UID and EUID together, FieldGID for
// GID and EGID, FieldPath, FieldDetail and FieldExe for the bytes and their flags.
func (rs *RuleSet) Consulted(e abi.Event) abi.Fields {
	if e >= abi.EventCount {
		return 0
	}
	return rs.lists[e].consulted
}

// ConsultedArgs returns which of the event's numbers FieldArgs stands for in Consulted:
// bit i is Request.Arg[i].
func (rs *RuleSet) ConsultedArgs(e abi.Event) uint8 {
	if e >= abi.EventCount {
		return 0
	}
	return rs.lists[e].args
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Options are what Compile needs from the machine. The zero value compiles every
// file that names no cgroup.
type Options struct {
	// Epoch is what RuleSet.Epoch returns.
	Epoch uint64
	// CgroupID returns the id of the cgroup v2 with this path below the mount
	// point. It is called once per path, from the goroutine that called Compile.
	CgroupID func(path string) (uint64, error)
}

// RuleSet is a compiled rule file. It is immutable and safe for concurrent use.
type RuleSet struct {
	file        *File
	epoch       uint64
	fingerprint uint64
	fallback    Decision // what decides when no rule does
	all         []matcher
	lists       [abi.EventCount]list
	nodes       []*node // of the classifiers, by ref
}

// list is what one event is decided by.
type list struct {
	rules     []int32 // of all, in order
	root      *node   // the same, filed; nil when there are none
	consulted abi.Fields
	args      uint8 // bit i: Request.Arg[i] is consulted
}

// Load is Parse and Compile.
func Load(name string, src []byte, o Options) (*RuleSet, error) {
	f, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	return Compile(f, o)
}

// Compile turns a checked file into a rule set. What can still be wrong is that
// a cgroup does not exist; the error then is a Problems.
func Compile(f *File, o Options) (*RuleSet, error) {
	c := compiler{file: f, options: o, cgroups: map[string]uint64{}, ids: map[string]*subjectIDs{}, indexes: map[string]*[abi.EventCount]uint8{}}
	rs := &RuleSet{
		file:        f,
		epoch:       o.Epoch,
		fingerprint: fingerprint(f),
		fallback:    Decision{Verdict: f.def, Rule: -1, Deadline: f.deadline, OnFail: f.onFail},
		all:         make([]matcher, len(f.rules)),
	}
	var closed eventSet // events that a rule without conditions has ended
	for i := range f.rules {
		r := &f.rules[i]
		m := &rs.all[i]
		*m = matcher{decision: Decision{Verdict: r.verdict, Rule: int32(i), Deadline: r.deadline, OnFail: r.onFail}}
		m.match = c.conditions(r, &r.match)
		if r.not != nil {
			not := c.conditions(r, r.not)
			if not.digest != nil {
				not.digest.inNot = true
			}
			m.not = &not
		}
		for e := abi.EventNone + 1; e < abi.EventCount; e++ {
			if !r.events.has(e) || closed.has(e) {
				continue
			}
			l := &rs.lists[e]
			l.rules = append(l.rules, int32(i))
			l.consulted |= m.consulted()
			l.args |= m.args(e)
			if m.match.has == 0 && m.not == nil {
				closed.add(e)
			}
		}
	}
	if err := c.problems.finish(); err != nil {
		return nil, err
	}
	rs.classify(few)
	return rs, nil
}

// classify files the rules of each event. Events with the same rules share what they are
// filed in, unless it is about arguments, which are elsewhere in each event. Up to few
// rules are not filed.
func (rs *RuleSet) classify(few int) {
	rs.nodes = []*node{nil}
	b := builder{rs: rs, few: few, left: moreKeys}
	for i := range rs.all {
		b.left += timesKeys * rs.all[i].match.keys()
	}
	for e := range rs.lists {
		l := &rs.lists[e]
		if len(l.rules) == 0 {
			continue
		}
		for before := range rs.lists[:e] {
			if o := &rs.lists[before]; l.consulted&abi.FieldArgs == 0 && slices.Equal(o.rules, l.rules) {
				l.rules, l.root = o.rules, o.root
				break
			}
		}
		if l.root == nil {
			l.rules = slices.Clip(l.rules)
			l.root = b.root(abi.Event(e), l.rules)
		}
	}
}

// shared returns ids, or the same ones of an earlier rule: most rules of a file name the
// same few users.
func (c *compiler) shared(ids *subjectIDs) *subjectIDs {
	var key []byte
	for _, rs := range [...][]numberRange{ids.uid, ids.gid, ids.euid, ids.egid} {
		key = binary.AppendUvarint(key, uint64(len(rs)))
		for _, r := range rs {
			key = binary.AppendUvarint(binary.AppendUvarint(key, r.lo), r.hi)
		}
	}
	for _, id := range ids.cgroup {
		key = binary.AppendUvarint(key, id)
	}
	if same := c.ids[string(key)]; same != nil {
		return same
	}
	c.ids[string(key)] = ids
	return ids
}

type compiler struct {
	file     *File
	options  Options
	problems Problems
	cgroups  map[string]uint64      // paths resolved so far
	ids      map[string]*subjectIDs // by all that is in them
	// Where each event has an argument, by its name.
	indexes map[string]*[abi.EventCount]uint8
}

func (c *compiler) conditions(r *rule, b *block) conditions {
	out := conditions{access: b.access}
	if b.access != 0 {
		out.has |= abi.FieldAccess
	}
	if len(b.path) > 0 {
		out.has |= abi.FieldPath
		out.path = compilePaths(b.path)
	}
	if len(b.detail) > 0 {
		out.has |= abi.FieldDetail
		out.detail = compilePaths(b.detail)
	}
	if len(b.args) > 0 {
		out.has |= abi.FieldArgs
		out.args = c.args(b.args)
	}
	if len(b.addr) > 0 {
		out.has |= abi.FieldArgs
		out.addr = c.addrs(b.addr)
	}
	if len(b.exe) > 0 {
		out.has |= abi.FieldExe
		out.exe = compilePaths(b.exe)
	}
	if len(b.digest) > 0 {
		out.has |= abi.FieldDigest
		out.digest = newDigestMatch(b.digest)
	}
	ids := subjectIDs{uid: mergeRanges(b.uid), gid: mergeRanges(b.gid), euid: mergeRanges(b.euid), egid: mergeRanges(b.egid)}
	if len(b.uid)+len(b.euid) > 0 {
		out.has |= abi.FieldUID
	}
	if len(b.gid)+len(b.egid) > 0 {
		out.has |= abi.FieldGID
	}
	if len(b.cgroup) > 0 {
		out.has |= abi.FieldCgroup
		ids.cgroup = c.cgroupIDs(r, b.cgroup)
	}
	if out.has&(abi.FieldUID|abi.FieldGID|abi.FieldCgroup) != 0 {
		out.ids = c.shared(&ids)
	}
	return out
}

func (c *compiler) args(tests []argTest) []argMatch {
	var out []argMatch
	for _, t := range tests {
		out = append(out, argMatch{at: c.index(t.name), ranges: mergeRanges(t.ranges), all: t.all, any: t.any})
	}
	return out
}

// index returns where each event has the argument of that name.
func (c *compiler) index(name string) *[abi.EventCount]uint8 {
	at := c.indexes[name]
	if at == nil {
		at = argIndex(name)
		c.indexes[name] = at
	}
	return at
}

func (c *compiler) cgroupIDs(r *rule, paths []cgroupPath) []uint64 {
	var ids []uint64
	for _, p := range paths {
		id, ok := c.cgroups[p.path]
		if !ok {
			problem := Problem{File: c.file.name, Line: p.line, Column: p.column, Rule: r.id}
			if c.options.CgroupID == nil {
				problem.Message = "the cgroup " + quote(p.path) + " cannot be looked up here"
				problem.Hint = "check this file with the daemon, which can, or take subject.cgroup out"
				c.problems = append(c.problems, problem)
				continue
			}
			var err error
			if id, err = c.options.CgroupID(p.path); err != nil || id == 0 {
				problem.Message = "the cgroup " + quote(p.path) + " is not there"
				if err != nil {
					problem.Message += ": " + err.Error()
				}
				problem.Hint = "create it first; the path is from below the cgroup v2 mount point, as /proc/PID/cgroup shows it"
				c.problems = append(c.problems, problem)
				continue
			}
			c.cgroups[p.path] = id
		}
		ids = append(ids, id)
	}
	return ids
}

// mergeRanges sorts the ranges and joins those that touch.
func mergeRanges(rs []numberRange) []numberRange {
	if len(rs) == 0 {
		return nil
	}
	sorted := slices.SortedFunc(slices.Values(rs), func(a, b numberRange) int { return cmp.Compare(a.lo, b.lo) })
	out := sorted[:1]
	for _, r := range sorted[1:] {
		if last := &out[len(out)-1]; r.lo <= last.hi || r.lo-1 == last.hi { // lo is above last.hi there, so not 0
			last.hi = max(last.hi, r.hi)
		} else {
			out = append(out, r)
		}
	}
	return slices.Clip(out)
}

// fewLiterals is up to how many paths are compared one after another, which
// mostly ends at the length; more are looked up in a map. Measured on amd64: the
// map costs as much as about eight comparisons.
const fewLiterals = 8

func compilePaths(ps []pattern) *paths {
	out := &paths{}
	for _, p := range ps {
		switch {
		case p.kind == literal:
			out.literals = append(out.literals, p.text)
		case p.kind == prefix:
			out.prefixes = append(out.prefixes, p.text)
		case len(p.glob.code) == 0: // a glob whose wildcards are all escaped
			out.literals = append(out.literals, p.glob.head)
		case len(p.glob.code) == 1 && p.glob.code[0].op == opDeep && p.glob.tail == "":
			out.prefixes = append(out.prefixes, p.glob.head)
		default:
			out.globs = append(out.globs, p.glob)
		}
	}
	if len(out.literals) > fewLiterals {
		out.many = make(map[string]struct{}, len(out.literals))
		for _, s := range out.literals {
			out.many[strings.Clone(s)] = struct{}{}
		}
		out.literals = nil
	}
	return out
}

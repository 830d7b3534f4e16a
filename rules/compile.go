// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

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
	// Program returns what the kernel knows the program at a path by. It is called as CgroupID
	// is. Nil: programs are known by their paths alone, which is enough for all but to put the
	// rule set in force.
	Program func(path string) (dev, ino uint64, err error)
}

// Load is Parse and Compile.
func Load(name string, src []byte, o Options) (*RuleSet, error) {
	f, err := Parse(name, src)
	if err != nil {
		return nil, err
	}
	return Compile(f, o)
}

// Compile turns a checked file into a rule set, which keeps nothing of it. What can still be
// wrong is that a cgroup or the program of a process tree does not exist, or that there are too
// many of the latter; the error then is a Problems.
func Compile(f *File, o Options) (*RuleSet, error) {
	rs := newRuleSet(f.settings)
	rs.epoch = o.Epoch
	rs.fingerprint = fingerprint(f)
	rs.all = make([]matcher, len(f.rules))
	rs.about = make([]about, len(f.rules))
	c := newCompiler(&rs.pool)
	c.file, c.options = f, o
	for i := range f.rules {
		c.rule(rs, int32(i), &f.rules[i])
	}
	if err := c.problems.finish(); err != nil {
		return nil, err
	}
	c.finish()
	packed := make(chan packed, 1)
	go func() { packed <- pack(f.source) }()
	rs.sums = textSums(f.source, rs.about)
	rs.list()
	rs.classify(few)
	rs.source = <-packed
	return rs, nil
}

// list makes the lists of the events.
func (rs *RuleSet) list() {
	var closed eventSet // events that a rule without conditions has ended
	for i := range rs.all {
		m := &rs.all[i]
		_, isOff := rs.off[int32(i)]
		for e := abi.EventNone + 1; e < abi.EventCount; e++ {
			if !rs.about[i].events.has(e) || closed.has(e) || isOff {
				continue
			}
			l := &rs.lists[e]
			l.rules = append(l.rules, int32(i))
			fields, args := rs.consulted(m, e)
			l.consulted |= fields
			l.args |= args
			if m.match.has == 0 && m.not == 0 && m.when == 0 && !m.once {
				closed.add(e)
			}
		}
	}
	for e := abi.EventNone + 1; e < abi.EventCount; e++ {
		rs.lists[e].kernel = rs.newKernelRules(e)
	}
}

// classify files the rules of each event. Events with the same rules share what they are
// filed in, unless it is about arguments, which are elsewhere in each event. Up to few
// rules are not filed.
func (rs *RuleSet) classify(few int) {
	rs.nodes = []*node{nil}
	b := builder{rs: rs, few: few, left: moreKeys}
	b.left += timesKeys * rs.valueCount()
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

// compiler fills a pool.
type compiler struct {
	file     *File
	options  Options
	problems Problems
	pool     *pool
	text     strings.Builder
	cgroups  map[string]uint64 // paths resolved so far
	trees    map[string]int    // likewise, where they are in the pool
	treeSets map[uint64]uint32
	// What is in the pool, by all that is in it: rules have much in common.
	ids   map[string]uint32
	thens map[then]uint32
	notes map[Note]uint32
	whens map[*when]uint32
	// Lists that rules share, as they are a set, by where they are.
	members  map[memberKey]uint32
	nets     map[*netip.Prefix]uint32
	ranges   map[*numberRange][]numberRange
	sums     map[*digest][]digest
	verities map[*abi.Verity]*verityMatch
	contents map[contentKey]uint32
	// Where each event has an argument, by its name.
	indexes map[string]*[abi.EventCount]uint8
}

type memberKey struct {
	fact  fact
	first *pattern
}

func newCompiler(p *pool) *compiler {
	*p = pool{nots: make([]conditions, 1), whens: make([]*when, 1), addrs: make([]addrMatch, 1), contents: make([]contentMatch, 1), ids: make([]subjectIDs, 1), treeSets: make([]uint64, 1), notes: make([]Note, 1)}
	return &compiler{pool: p, cgroups: map[string]uint64{}, trees: map[string]int{}, treeSets: map[uint64]uint32{0: 0}, ids: map[string]uint32{}, thens: map[then]uint32{}, notes: map[Note]uint32{{}: 0}, whens: map[*when]uint32{}, members: map[memberKey]uint32{}, nets: map[*netip.Prefix]uint32{}, ranges: map[*numberRange][]numberRange{}, sums: map[*digest][]digest{}, verities: map[*abi.Verity]*verityMatch{},
		contents: map[contentKey]uint32{}, indexes: map[string]*[abi.EventCount]uint8{}}
}

// finish gives the pool what is complete only now, and takes spare room away.
func (c *compiler) finish() {
	p := c.pool
	p.text = strings.Clone(c.text.String())
	p.patterns, p.globs, p.nots, p.args, p.addrs, p.ids = slices.Clip(p.patterns), slices.Clip(p.globs), slices.Clip(p.nots), slices.Clip(p.args), slices.Clip(p.addrs), slices.Clip(p.ids)
	p.treeBits = p.treeSets // until somebody says which bits they have: see WithMarks
	for _, q := range p.patterns {
		if q.kind == globbed {
			p.globs[q.glob].share(p.text[q.at : q.at+uint32(q.n)])
		}
	}
}

// index returns the number of v in a slice of the pool, which it is added to if it is not
// in it.
func index[T comparable](known map[T]uint32, all *[]T, v T) uint32 {
	n, ok := known[v]
	if !ok {
		n = uint32(len(*all))
		known[v] = n
		*all = append(*all, v)
	}
	return n
}

// write returns where s is in the text of the pool.
func (c *compiler) write(s string) uint32 {
	c.text.WriteString(s)
	return uint32(c.text.Len() - len(s))
}

// rule compiles rule i.
func (c *compiler) rule(rs *RuleSet, i int32, r *rule) {
	m := &rs.all[i]
	m.match = c.conditions(r, &r.match)
	m.match.content = c.content(&r.match, false)
	if r.not != nil {
		m.not = uint32(len(c.pool.nots))
		not := c.conditions(r, r.not)
		not.content = c.content(r.not, true)
		c.pool.nots = append(c.pool.nots, not)
	}
	if r.when != nil {
		m.when = index(c.whens, &c.pool.whens, r.when)
	}
	if !r.life.always() {
		t := timed{rule: i, lifespan: r.life}
		if m.once = r.life.kind == once; m.once {
			t.spent = new(atomic.Bool)
		}
		rs.timed = append(rs.timed, t)
	}
	rs.named |= r.events
	m.then = index(c.thens, &c.pool.thens, then{Decision{Verdict: r.verdict, Deadline: r.deadline, OnFail: r.onFail, Once: m.once}, r.only})
	rs.about[i] = about{id: c.write(r.id), idLen: uint8(len(r.id)), line: uint32(r.line), events: r.events, deadlineWritten: r.deadlineWritten,
		note: index(c.notes, &c.pool.notes, r.note)}
}

func (c *compiler) conditions(r *rule, b *block) conditions {
	out := conditions{access: b.access}
	if b.access != 0 {
		out.has |= abi.FieldAccess
	}
	if len(b.path) > 0 {
		out.has |= abi.FieldPath
		out.path = c.texts(factPath, b.path)
	}
	if len(b.detail) > 0 {
		out.has |= abi.FieldDetail
		out.detail = c.texts(factDetail, b.detail)
	}
	if len(b.args) > 0 {
		out.has |= abi.FieldArgs
		out.args = c.args(b.args)
	}
	if len(b.addr) > 0 {
		out.has |= abi.FieldArgs
		key := &b.addr[0]
		if out.addr = c.nets[key]; out.addr == 0 {
			out.addr = uint32(len(c.pool.addrs))
			c.nets[key] = out.addr
			c.pool.addrs = append(c.pool.addrs, c.addrs(b.addr))
		}
	}
	if len(b.exe) > 0 {
		out.has |= abi.FieldExe
		out.exe = c.texts(factExe, b.exe)
	}
	out.has |= b.contentFields()
	ids := subjectIDs{uid: c.merged(b.uid), gid: c.merged(b.gid), euid: c.merged(b.euid), egid: c.merged(b.egid)}
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
	if len(b.tree) > 0 {
		out.has |= abi.FieldTree
		ids.tree = c.treeSet(r, b.tree)
	}
	if b.attributes.given() {
		out.has |= abi.FieldAttributes
		ids.attributes = b.attributes
		ids.attributes.owner, ids.attributes.group = c.merged(b.attributes.owner), c.merged(b.attributes.group)
	}
	if len(b.size) > 0 {
		out.has |= abi.FieldSize
		ids.size = c.merged(b.size)
	}
	if b.credentials.given() {
		out.has |= abi.FieldCredentials
		ids.credentials = b.credentials
		ids.credentials.login, ids.credentials.session = c.merged(b.credentials.login), c.merged(b.credentials.session)
	}
	if out.has&(abi.FieldUID|abi.FieldGID|abi.FieldCgroup|abi.FieldTree|abi.FieldAttributes|abi.FieldSize|abi.FieldCredentials) != 0 {
		out.ids = c.shared(ids)
	}
	return out
}

// texts adds a list of patterns to the pool.
func (c *compiler) texts(f fact, ps []pattern) texts {
	if len(ps) > fewPatterns {
		key := memberKey{f, &ps[0]}
		n, ok := c.members[key]
		if !ok {
			n = uint32(len(c.pool.members))
			c.members[key] = n
			c.pool.members = append(c.pool.members, newMembers(f, ps))
		}
		return texts{at: n, kind: manyTexts}
	}
	first := c.pattern(ps[0])
	if one, ok := first.alone(); ok && len(ps) == 1 {
		return one
	}
	t := texts{at: uint32(len(c.pool.patterns)), n: uint16(len(ps)), kind: fewTexts}
	c.pool.patterns = append(c.pool.patterns, first)
	for _, p := range ps[1:] {
		c.pool.patterns = append(c.pool.patterns, c.pattern(p))
	}
	return t
}

// newMembers compiles a long list of patterns.
func newMembers(f fact, ps []pattern) members {
	rs := &RuleSet{all: make([]matcher, len(ps))}
	c := newCompiler(&rs.pool)
	l := &rs.lists[abi.EventOpen] // any one
	for i := range ps {
		*rs.all[i].match.text(f) = c.texts(f, ps[i:i+1])
		l.rules = append(l.rules, int32(i))
	}
	c.finish()
	rs.classify(few)
	return members{rs, l.root, f}
}

// pattern compiles one pattern.
func (c *compiler) pattern(p pattern) textPattern {
	q := textPattern{kind: p.kind, asGlob: p.kind == globbed}
	text := p.text
	switch {
	case p.kind != globbed:
	case len(p.glob.code) == 0: // all wildcards are escaped
		q.kind, text = literal, p.glob.head
	case len(p.glob.code) == 1 && p.glob.code[0].op == opDeep && p.glob.tail == "":
		q.kind, text = prefix, p.glob.head
	default:
		q.glob = uint32(len(c.pool.globs))
		c.pool.globs = append(c.pool.globs, *p.glob)
	}
	q.at, q.n = c.write(text), uint16(len(text))
	return q
}

func (c *compiler) args(tests []argTest) run {
	out := run{uint32(len(c.pool.args)), uint32(len(tests))}
	for _, t := range tests {
		c.pool.args = append(c.pool.args, argMatch{name: t.name, at: c.index(t.name), ranges: c.merged(t.ranges), all: t.all, any: t.any})
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

// shared returns the number of ids in the pool, or that of the same ones of an earlier rule:
// most rules of a file name the same few users.
func (c *compiler) shared(ids subjectIDs) uint32 {
	var key []byte
	for _, rs := range [...][]numberRange{ids.uid, ids.gid, ids.euid, ids.egid, ids.size} {
		key = binary.AppendUvarint(key, uint64(len(rs)))
		for _, r := range rs {
			key = binary.AppendUvarint(binary.AppendUvarint(key, r.lo), r.hi)
		}
	}
	key = ids.credentials.appendKey(ids.attributes.appendKey(binary.AppendUvarint(key, uint64(ids.tree))))
	for _, g := range ids.cgroup {
		key = binary.AppendUvarint(key, g.id)
	}
	n, ok := c.ids[string(key)]
	if !ok {
		n = uint32(len(c.pool.ids))
		c.ids[string(key)] = n
		c.pool.ids = append(c.pool.ids, ids)
	}
	return n
}

func (c *compiler) cgroupIDs(r *rule, paths []cgroupPath) []cgroupID {
	var ids []cgroupID
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
		ids = append(ids, cgroupID{id, p.path})
	}
	return ids
}

// merged is mergeRanges, made once for a long set that several rules name.
func (c *compiler) merged(rs []numberRange) []numberRange {
	if len(rs) < longEncoded { // no set, or one that is not worth it
		return mergeRanges(rs)
	}
	out, ok := c.ranges[&rs[0]]
	if !ok {
		out = mergeRanges(rs)
		c.ranges[&rs[0]] = out
	}
	return out
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

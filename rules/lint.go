// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Lint names what is well-formed in a rule set and cannot be meant, in the order of the
// file: rules that never decide because an earlier one matches all that they do, and paths
// that no request has because symbolic links lead through them. resolve follows the links
// of a path, as filepath.EvalSymlinks does; nil leaves paths out.
//
// A rule that it names never decides; one that only several others together leave nothing to
// of a single event is not found. A path that it names matches nothing below the root that
// resolve looks at: in a container the same path can be another one.
func (rs *RuleSet) Lint(resolve func(path string) (string, error)) Problems {
	l := linter{rs: rs, file: rs.parsed(), resolve: resolve, dirs: map[string]string{}}
	for i := range rs.all {
		if by := l.shadow(int32(i)); by != "" {
			l.add(i, "the rule never decides: "+by+" all that it does, and before it", "take one of them out, or let the narrower one stand first")
		}
		if resolve != nil {
			l.links(i)
		}
	}
	return l.found
}

type linter struct {
	rs      *RuleSet
	file    *File
	resolve func(string) (string, error)
	dirs    map[string]string // resolved so far, "" for those that are not there
	found   Problems
}

func (l *linter) add(i int, message, hint string) {
	r := &l.file.rules[i]
	l.found = append(l.found, Problem{File: l.file.name, Line: r.line, Column: r.column, Rule: r.id, Message: message, Hint: hint})
}

// shadow says which earlier rules match whatever rule i does, one for each event that it
// is about; "" when one is not found. One witness per event finds the candidate: a request
// that rule i matches and another decides.
func (l *linter) shadow(i int32) string {
	m := &l.rs.all[i]
	var by []string
	for _, e := range l.rs.about[i].events.list() {
		var w abi.Request
		w.Event = e
		if !l.rs.witness(&m.match, &w) || !l.rs.matches(i, &w) {
			return "" // perhaps its not block, perhaps nothing is like that
		}
		d := l.rs.Decide(&w)
		if d.Rule < 0 || d.Rule >= i {
			return ""
		}
		if !l.rs.covers(&l.rs.all[d.Rule], m, e) {
			return ""
		}
		name := fmt.Sprintf("%s on line %d", l.rs.RuleID(d.Rule), l.rs.Line(d.Rule))
		if !slices.Contains(by, name) {
			by = append(by, name)
		}
	}
	switch len(by) {
	case 0:
		return ""
	case 1:
		return "rule " + by[0] + " matches"
	}
	return "rules " + strings.Join(by, " and ") + " together match"
}

// witness changes r, whose event is set, into a request that all conditions hold for. False
// when it does not know how.
func (p *pool) witness(c *conditions, r *abi.Request) bool {
	r.Access = c.access
	r.Flags |= abi.FlagDigest
	if c.digest != 0 {
		r.Digest = p.digests[c.digest].sums[0]
	}
	text := func(t texts, buf []byte, n *uint32) bool {
		s := "/"
		for q := range p.each(t) {
			s = q.witness()
			break
		}
		*n = uint32(copy(buf, s))
		return int(*n) == len(s)
	}
	if !text(c.path, r.PathBuf[:], &r.PathLen) || !text(c.detail, r.DetailBuf[:], &r.DetailLen) || !text(c.exe, r.ExeBuf[:], &r.ExeLen) {
		return false
	}
	for _, a := range p.argsOf(c) {
		at := a.at[r.Event]
		if at >= abi.Args {
			return false
		}
		if a.ranges != nil {
			r.Arg[at] = a.ranges[0].lo
		} else {
			r.Arg[at] |= a.all | a.any
		}
	}
	if a := &p.addrs[c.addr]; c.addr != 0 {
		at := [...]uint8{a.family[r.Event], a.high[r.Event], a.low[r.Event]}
		if slices.Max(at[:]) >= abi.Args {
			return false
		}
		r.Arg[at[0]], r.Arg[at[1]], r.Arg[at[2]] = familyInet6, a.nets[0].high, a.nets[0].low
	}
	first := func(rs []numberRange) uint32 {
		if rs == nil {
			return 0
		}
		return uint32(rs[0].lo)
	}
	ids := &p.ids[c.ids]
	r.UID, r.GID, r.EUID, r.EGID = first(ids.uid), first(ids.gid), first(ids.euid), first(ids.egid)
	if ids.cgroup != nil {
		r.Cgroup[0] = ids.cgroup[0].id
	}
	return true
}

// witness returns a text that the pattern may match.
func (c compiledPattern) witness() string {
	switch c.kind {
	case literal:
		return c.text
	case prefix:
		return c.text + "x"
	}
	return c.glob.witness()
}

// witness returns a text that the pattern may match: wildcards as short as they can be.
func (g *glob) witness() string {
	var mid []inst
	for i := 0; i < len(g.code); i++ {
		switch in := g.code[i]; in.op {
		case opSplit: // past what is optional, else the last alternative
			i = max(i, int(in.x)-1)
		case opJump:
			i = int(in.x) - 1
		case opStar, opDeep:
		case opAny:
			mid = append(mid, inst{opSymbol, 'x'})
		case opClass:
			mid = append(mid, inst{opSymbol, g.classes[in.x].member()})
		default:
			mid = append(mid, in)
		}
	}
	return g.head + spell(mid) + g.tail
}

// member returns a symbol of the class, if there is a usual one.
func (c *class) member() int32 {
	for _, r := range c.ranges {
		if c.has(r.lo) && r.lo != '/' {
			return r.lo
		}
	}
	for s := int32('0'); s < 0x80; s++ {
		if c.has(s) {
			return s
		}
	}
	return 'x' // then the witness does not match, and nothing is said
}

// covers reports whether m matches whatever o does, of one event.
func (rs *RuleSet) covers(m, o *matcher, e abi.Event) bool {
	if m.when != 0 && m.when != o.when || m.once || !rs.wider(&m.match, &o.match, e) {
		return false
	}
	return m.not == 0 || o.not != 0 && rs.wider(&rs.nots[o.not], &rs.nots[m.not], e)
}

// wider reports whether c holds wherever o does. False also when it cannot tell.
func (p *pool) wider(c, o *conditions, e abi.Event) bool {
	if c.access != 0 && (o.access == 0 || o.access&^c.access != 0) {
		return false
	}
	if !p.widerTexts(c.path, o.path, factPath) || !p.widerTexts(c.detail, o.detail, factDetail) || !p.widerTexts(c.exe, o.exe, factExe) {
		return false
	}
	for _, a := range p.argsOf(c) {
		if !slices.ContainsFunc(p.argsOf(o), func(b argMatch) bool { return a.covers(&b, e) }) {
			return false
		}
	}
	if c.addr != 0 && (o.addr == 0 || slices.ContainsFunc(p.addrs[o.addr].nets, func(n netMatch) bool { return !p.addrs[c.addr].covers(n) })) {
		return false
	}
	if c.digest != 0 && (o.digest == 0 || slices.ContainsFunc(p.digests[o.digest].sums, func(d digest) bool { return !p.digests[c.digest].has((*[32]byte)(&d)) })) {
		return false
	}
	if c.ids == 0 {
		return true
	}
	a, b := &p.ids[c.ids], &p.ids[o.ids]
	return covered(a.uid, b.uid) && covered(a.gid, b.gid) && covered(a.euid, b.euid) && covered(a.egid, b.egid) &&
		(a.cgroup == nil || b.cgroup != nil && !slices.ContainsFunc(b.cgroup, func(id cgroupID) bool { return !slices.Contains(a.cgroup, id) }))
}

func (a *argMatch) covers(o *argMatch, e abi.Event) bool {
	if a.at[e] != o.at[e] {
		return false
	}
	if a.ranges == nil || o.ranges == nil {
		return a.ranges == nil && o.ranges == nil && a.all == o.all && a.any == o.any
	}
	return covered(a.ranges, o.ranges)
}

func (m *addrMatch) covers(n netMatch) bool {
	return slices.ContainsFunc(m.nets, func(o netMatch) bool {
		return o.bits <= n.bits && n.high&o.highMask == o.high && n.low&o.lowMask == o.low
	})
}

// covered reports whether each of the ranges lies in one of wide; nil is all numbers.
func covered(wide, ranges []numberRange) bool {
	if wide == nil {
		return true
	}
	return ranges != nil && !slices.ContainsFunc(ranges, func(r numberRange) bool {
		return !slices.ContainsFunc(wide, func(w numberRange) bool { return w.lo <= r.lo && r.hi <= w.hi })
	})
}

// widerTexts reports whether a matches whatever b does; no list is every text, and none at
// all.
func (p *pool) widerTexts(a, b texts, f fact) bool {
	if a.kind == noTexts {
		return true
	}
	if b.kind == noTexts {
		return false
	}
	begins := func(s string) bool {
		for q := range p.each(a) {
			if q.kind == prefix && strings.HasPrefix(s, q.text) {
				return true
			}
		}
		return false
	}
	same := func(g *glob) bool {
		for q := range p.each(a) {
			if q.kind == globbed && q.glob.same(g) {
				return true
			}
		}
		return false
	}
	var r abi.Request
	for q := range p.each(b) {
		var ok bool
		switch q.kind {
		case literal:
			ok = p.holds(a, f, f.put(&r, q.text))
		case prefix:
			ok = begins(q.text)
		default:
			ok = begins(q.glob.head) || same(q.glob)
		}
		if !ok {
			return false
		}
	}
	return true
}

// same reports whether two patterns are written alike.
func (g *glob) same(o *glob) bool {
	return g.head == o.head && g.tail == o.tail && slices.Equal(g.code, o.code) &&
		slices.EqualFunc(g.classes, o.classes, func(a, b class) bool { return a.not == b.not && slices.Equal(a.ranges, b.ranges) })
}

// follows are the events whose object is what a symbolic link leads to, and never the
// link.
var follows = setOf(abi.EventOpen, abi.EventExec, abi.EventTruncate, abi.EventMMapExec, abi.EventMount, abi.EventUmount, abi.EventChroot)

// links names the paths of a rule that lead through symbolic links: a request has the path
// without them.
func (l *linter) links(i int) {
	r := &l.file.rules[i]
	whole := r.events&^follows == 0
	asGiven := r.events&sockets != 0 // the name of a socket is the one that the program wrote
	for _, b := range []*block{&r.match, r.not} {
		if b == nil {
			continue
		}
		for _, p := range b.path {
			if !asGiven {
				l.link(i, "object.path", p, whole)
			}
		}
		for _, p := range b.exe {
			l.link(i, "subject.exe", p, true)
		}
		if r.events&^pathDetail == 0 {
			for _, p := range b.detail {
				l.link(i, "detail", p, false)
			}
		}
	}
}

// link looks at one pattern. whole: its last component is followed, too.
func (l *linter) link(i int, what string, p pattern, whole bool) {
	text := p.text
	if p.kind == globbed {
		text = p.glob.head
	}
	dir, name := path.Split(text)
	if !strings.HasPrefix(dir, "/") {
		return
	}
	if dir == "/proc/" || strings.HasPrefix(dir, "/proc/") || dir == "/dev/fd/" { // another place for everybody
		return
	}
	real, there := l.dir(path.Clean(dir))
	if !there {
		return
	}
	full := path.Join(real, name)
	if whole && p.kind == literal && name != "" {
		to, err := l.resolve(full)
		if err != nil {
			return
		}
		if full = to; strings.HasPrefix(to, "/proc/") {
			return
		}
	}
	if full == path.Clean(text) {
		return
	}
	if p.kind != literal && strings.HasSuffix(text, "/") && full != "/" {
		full += "/"
	}
	if p.kind == globbed {
		full += "..." // the rest may be escaped
	}
	l.add(i, fmt.Sprintf("%s %s matches nothing here: it leads through a symbolic link", what, quote(p.text)), "begin it with "+full+", which is where that is")
}

// dir returns a directory with its links followed; false when it is not there.
func (l *linter) dir(name string) (string, bool) {
	real, known := l.dirs[name]
	if !known {
		real, _ = l.resolve(name) // "" on an error
		l.dirs[name] = real
	}
	return real, real != ""
}

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
	l := linter{rs: rs, resolve: resolve, dirs: map[string]string{}}
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
	resolve func(string) (string, error)
	dirs    map[string]string // resolved so far, "" for those that are not there
	found   Problems
}

func (l *linter) add(i int, message, hint string) {
	r := &l.rs.file.rules[i]
	l.found = append(l.found, Problem{File: l.rs.file.name, Line: r.line, Column: r.column, Rule: r.id, Message: message, Hint: hint})
}

// shadow says which earlier rules match whatever rule i does, one for each event that it
// is about; "" when one is not found. One witness per event finds the candidate: a request
// that rule i matches and another decides.
func (l *linter) shadow(i int32) string {
	ast, m := &l.rs.file.rules[i], &l.rs.all[i]
	var by []string
	for _, e := range ast.events.list() {
		var w abi.Request
		w.Event = e
		if !m.match.witness(&w) || !m.matches(&w) {
			return "" // perhaps its not block, perhaps nothing is like that
		}
		d := l.rs.Decide(&w)
		if d.Rule < 0 || d.Rule >= i {
			return ""
		}
		if o := &l.rs.all[d.Rule]; !o.covers(m, e) {
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
func (c *conditions) witness(r *abi.Request) bool {
	r.Access = c.access
	r.Flags |= abi.FlagDigest
	if c.digest != nil {
		r.Digest = c.digest.sums[0]
	}
	text := func(p *paths, buf []byte, n *uint32) bool {
		s, ok := "/", true
		if p != nil {
			s, ok = p.witness()
		}
		*n = uint32(copy(buf, s))
		return ok && int(*n) == len(s)
	}
	if !text(c.path, r.PathBuf[:], &r.PathLen) || !text(c.detail, r.DetailBuf[:], &r.DetailLen) || !text(c.exe, r.ExeBuf[:], &r.ExeLen) {
		return false
	}
	for i := range c.args {
		a := &c.args[i]
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
	if a := c.addr; a != nil {
		at := [...]uint8{a.family[r.Event], a.high[r.Event], a.low[r.Event]}
		if slices.Max(at[:]) >= abi.Args {
			return false
		}
		r.Arg[at[0]], r.Arg[at[1]], r.Arg[at[2]] = familyInet6, a.nets[0].high, a.nets[0].low
	}
	if c.ids != nil {
		first := func(rs []numberRange) uint32 {
			if rs == nil {
				return 0
			}
			return uint32(rs[0].lo)
		}
		r.UID, r.GID, r.EUID, r.EGID = first(c.ids.uid), first(c.ids.gid), first(c.ids.euid), first(c.ids.egid)
		if c.ids.cgroup != nil {
			r.Cgroup[0] = c.ids.cgroup[0]
		}
	}
	return true
}

// witness returns a text that matches.
func (p *paths) witness() (string, bool) {
	switch {
	case len(p.literals) > 0:
		return p.literals[0], true
	case len(p.prefixes) > 0:
		return p.prefixes[0] + "x", true
	case len(p.globs) > 0:
		return p.globs[0].witness(), true
	}
	for s := range p.many {
		return s, true
	}
	return "", false
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
func (m *matcher) covers(o *matcher, e abi.Event) bool {
	if !m.match.covers(&o.match, e) {
		return false
	}
	return m.not == nil || o.not != nil && o.not.covers(m.not, e)
}

// covers reports whether c holds wherever o does. False also when it cannot tell.
func (c *conditions) covers(o *conditions, e abi.Event) bool {
	if c.access != 0 && (o.access == 0 || o.access&^c.access != 0) {
		return false
	}
	if !c.path.covers(o.path) || !c.detail.covers(o.detail) || !c.exe.covers(o.exe) {
		return false
	}
	for i := range c.args {
		if !slices.ContainsFunc(o.args, func(a argMatch) bool { return c.args[i].covers(&a, e) }) {
			return false
		}
	}
	if c.addr != nil && (o.addr == nil || slices.ContainsFunc(o.addr.nets, func(n netMatch) bool { return !c.addr.covers(n) })) {
		return false
	}
	if c.digest != nil && (o.digest == nil || slices.ContainsFunc(o.digest.sums, func(d digest) bool { return !c.digest.has((*[32]byte)(&d)) })) {
		return false
	}
	if c.ids == nil {
		return true
	}
	if o.ids == nil {
		return false
	}
	return covered(c.ids.uid, o.ids.uid) && covered(c.ids.gid, o.ids.gid) && covered(c.ids.euid, o.ids.euid) && covered(c.ids.egid, o.ids.egid) &&
		(c.ids.cgroup == nil || o.ids.cgroup != nil && !slices.ContainsFunc(o.ids.cgroup, func(id uint64) bool { return !slices.Contains(c.ids.cgroup, id) }))
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

// covers reports whether p matches whatever o does; nil is every text, and none at all.
func (p *paths) covers(o *paths) bool {
	if p == nil {
		return true
	}
	if o == nil {
		return false
	}
	for s := range o.many {
		if !p.match([]byte(s)) {
			return false
		}
	}
	begins := func(s string) bool {
		return slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(s, prefix) })
	}
	return !slices.ContainsFunc(o.literals, func(s string) bool { return !p.match([]byte(s)) }) &&
		!slices.ContainsFunc(o.prefixes, func(s string) bool { return !begins(s) }) &&
		!slices.ContainsFunc(o.globs, func(g *glob) bool { return !begins(g.head) && !slices.ContainsFunc(p.globs, g.same) })
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
	r := &l.rs.file.rules[i]
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

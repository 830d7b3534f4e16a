// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

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
	if !p.contents[c.content].covers(&p.contents[o.content]) {
		return false
	}
	if c.ids == 0 {
		return true
	}
	a, b := &p.ids[c.ids], &p.ids[o.ids]
	return covered(a.uid, b.uid) && covered(a.gid, b.gid) && covered(a.euid, b.euid) && covered(a.egid, b.egid) &&
		a.attributes.covers(&b.attributes) && covered(a.size, b.size) && a.credentials.covers(&b.credentials) &&
		(a.cgroup == nil || b.cgroup != nil && !slices.ContainsFunc(b.cgroup, func(id cgroupID) bool { return !slices.Contains(a.cgroup, id) })) &&
		(a.tree == 0 || b.tree != 0 && p.treeSets[b.tree]&^p.treeSets[a.tree] == 0)
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

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// witness changes r, whose event is set, into a request that all conditions hold for. False
// when it does not know how.
func (p *pool) witness(c *conditions, r *abi.Request) bool {
	r.Access = c.access
	p.contents[c.content].witness(r)
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
	ids.attributes.witness(r)
	if ids.size != nil {
		r.Size = abi.Size{Known: true, Bytes: ids.size[0].lo}
	}
	ids.credentials.witness(r)
	if ids.cgroup != nil {
		r.Cgroup[0] = ids.cgroup[0].id
	}
	r.Trees = p.treeBits[ids.tree]
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

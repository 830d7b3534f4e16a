// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// matcher is a compiled rule: what Decide touches, and nothing else.
type matcher struct {
	match    conditions
	not      *conditions
	decision Decision
}

// conditions is a compiled block. has says which are given: FieldUID for uid or
// euid, FieldGID for gid or egid.
type conditions struct {
	has    abi.Fields
	access abi.Access
	path   *paths
	detail *paths
	exe    *paths
	args   []argMatch
	addr   *addrMatch
	ids    *subjectIDs
	digest *digestMatch
}

// argMatch is a compiled argTest.
type argMatch struct {
	at       *[abi.EventCount]uint8 // index in Request.Arg by event, abi.Args for none
	ranges   []numberRange          // sorted, apart; nil when bits are compared
	all, any uint64
}

type subjectIDs struct {
	uid, gid, euid, egid []numberRange // sorted, apart; nil when not given
	cgroup               []uint64
}

// paths is a list of patterns sorted by what they cost.
type paths struct {
	literals []string
	many     map[string]struct{} // the literals, when there are many
	prefixes []string
	globs    []*glob
}

// condition names one condition of a block.
type condition uint8

const (
	none condition = iota
	condAccess
	condUID
	condGID
	condEUID
	condEGID
	condCgroup
	condArgs
	condPath
	condDetail
	condExe
	condDigest // the last: see needsDigest
)

// Decide returns what the rule set says about a request: the verdict of the
// first rule that matches, the default when none does. If the first one that may match
// looks at a fact that r lacks and that can be had, it is Undecided. It allocates
// nothing and holds on to nothing of r.
func (rs *RuleSet) Decide(r *abi.Request) Decision {
	if r.Event < abi.EventCount {
		if root := rs.lists[r.Event].root; root != nil {
			if i := rs.search(root, r, nobody); i != nobody {
				if rs.lists[r.Event].consulted&abi.FieldDigest != 0 {
					return rs.decision(i, r) // apart, because most files have no such rule
				}
				return rs.all[i].decision
			}
		}
	}
	return rs.fallback
}

func (m *matcher) matches(r *abi.Request) bool {
	return m.match.fails(r) == none && (m.not == nil || m.not.fails(r) != none)
}

func (m *matcher) consulted() abi.Fields {
	f := m.match.has
	if m.not != nil {
		f |= m.not.has
	}
	return f
}

// fails returns the first condition that does not hold, none when all do. The
// order is cheapest first, and the same for Decide and Explain.
func (c *conditions) fails(r *abi.Request) condition {
	if c.access != 0 && r.Access&c.access == 0 {
		return condAccess
	}
	if c.ids != nil {
		if f := c.ids.fails(r); f != none {
			return f
		}
	}
	for i := range c.args {
		if !c.args[i].holds(r) {
			return condArgs
		}
	}
	if c.addr != nil && !c.addr.holds(r) {
		return condArgs
	}
	if c.path != nil && (r.Flags&(abi.FlagPathTruncated|abi.FlagNoObject) != 0 || !c.path.match(r.PathBuf[:min(r.PathLen, abi.PathBytes)])) {
		return condPath
	}
	if c.detail != nil && (r.Flags&abi.FlagDetailTruncated != 0 || !c.detail.match(r.DetailBuf[:min(r.DetailLen, abi.PathBytes)])) {
		return condDetail
	}
	if c.exe != nil && (r.Flags&abi.FlagNoExe != 0 || !c.exe.match(r.ExeBuf[:min(r.ExeLen, abi.PathBytes)])) {
		return condExe
	}
	if c.digest != nil && !c.digest.holds(r) {
		return condDigest
	}
	return none
}

// args returns which numbers of a request of this event are looked at.
func (m *matcher) args(e abi.Event) (bits uint8) {
	for _, c := range [...]*conditions{&m.match, m.not} {
		if c == nil {
			continue
		}
		for _, a := range c.args {
			bits |= 1 << a.at[e] // abi.Args shifts out
		}
		if a := c.addr; a != nil {
			bits |= 1<<a.family[e] | 1<<a.high[e] | 1<<a.low[e]
		}
	}
	return bits
}

func (a *argMatch) holds(r *abi.Request) bool {
	i := a.at[r.Event]
	if i >= abi.Args {
		return false
	}
	v := r.Arg[i]
	if a.ranges == nil {
		return v&a.all == a.all && (a.any == 0 || v&a.any != 0)
	}
	return inRanges(a.ranges, v)
}

func (s *subjectIDs) fails(r *abi.Request) condition {
	switch {
	case s.uid != nil && !inRanges(s.uid, uint64(r.UID)):
		return condUID
	case s.gid != nil && !inRanges(s.gid, uint64(r.GID)):
		return condGID
	case s.euid != nil && !inRanges(s.euid, uint64(r.EUID)):
		return condEUID
	case s.egid != nil && !inRanges(s.egid, uint64(r.EGID)):
		return condEGID
	case s.cgroup != nil && !inCgroup(s.cgroup, &r.Cgroup):
		return condCgroup
	}
	return none
}

// inRanges looks for v in sorted ranges that do not touch.
func inRanges(rs []numberRange, v uint64) bool {
	lo, hi := 0, len(rs)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch {
		case v < rs[mid].lo:
			hi = mid
		case v > rs[mid].hi:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

// inCgroup reports whether one of the subject's cgroups, its own or an ancestor,
// is in the list.
func inCgroup(list []uint64, of *[abi.CgroupLevels]uint64) bool {
	for _, id := range of {
		if id == 0 {
			return false
		}
		for _, want := range list {
			if id == want {
				return true
			}
		}
	}
	return false
}

// match reports whether one of the patterns matches b.
func (p *paths) match(b []byte) bool {
	for _, s := range p.literals {
		if string(b) == s {
			return true
		}
	}
	if p.many != nil {
		if _, ok := p.many[string(b)]; ok {
			return true
		}
	}
	for _, s := range p.prefixes {
		if len(b) >= len(s) && string(b[:len(s)]) == s {
			return true
		}
	}
	for _, g := range p.globs {
		if g.match(b) {
			return true
		}
	}
	return false
}

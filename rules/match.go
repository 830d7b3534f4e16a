// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// matcher is a compiled rule: what Decide touches, and nothing else. It is one cache line,
// and has no pointers, so that a million of them are nothing to the garbage collector: what
// it refers to is in the pool of its rule set.
type matcher struct {
	match conditions
	not   uint32 // of pool.nots, 0 for none
	when  uint32 // of pool.whens, 0 for none
	then  uint32 // of pool.thens
	once  bool   // it has the lifespan once
}

// then is what a rule decides.
type then struct {
	Decision            // without Rule
	only     abi.Access // what an open may ask for, 0 for anything
}

// conditions is a compiled block. has says which are given: FieldUID for uid or
// euid, FieldGID for gid or egid.
type conditions struct {
	has     abi.Fields
	access  abi.Access
	path    texts
	detail  texts
	exe     texts
	args    run    // of pool.args
	addr    uint32 // of pool.addrs, 0 for none
	ids     uint32 // of pool.ids, 0 for none
	content uint32 // of pool.contents, 0 for none
}

// run is a part of a slice in a pool.
type run struct{ at, n uint32 }

// pool is what the matchers of a rule set refer to. Entries with the number 0 are empty: they
// stand for none.
type pool struct {
	text     string // of ids and patterns, one behind the other
	patterns []textPattern
	globs    []glob
	members  []members
	nots     []conditions
	whens    []*when
	args     []argMatch
	addrs    []addrMatch
	ids      []subjectIDs
	contents []contentMatch
	// The process trees that rules name, each set of them that a rule names by their places in
	// trees, and the same sets by the bits that they have in a request.
	trees              []Tree
	treeSets, treeBits []uint64
	thens              []then
	notes              []Note
}

// argMatch is a compiled argTest.
type argMatch struct {
	name     string
	at       *[abi.EventCount]uint8 // index in Request.Arg by event, abi.Args for none
	ranges   []numberRange          // sorted, apart; nil when bits are compared
	all, any uint64
}

// subjectIDs are conditions on the numbers that the subject, and the file of the object, are known by.
type subjectIDs struct {
	uid, gid, euid, egid []numberRange // sorted, apart; nil when not given
	cgroup               []cgroupID
	tree                 uint32 // of pool.treeSets, 0 for none
	attributes           attributes
	size                 []numberRange
	credentials          credentials
}

// cgroupID is a cgroup that was looked up.
type cgroupID struct {
	id   uint64
	path string
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
	condOwner
	condGroup
	condMode
	condSize
	condLogin
	condSession
	condCapabilities
	condHost
	condCgroup
	condTree
	condArgs
	condPath
	condDetail
	condExe
	condFormat // from here on as contentFacts are: see needs
	condVerity
	condDigest
	condScan
	conditionCount
)

// Decide returns what the rule set says about a request: the verdict of the
// first rule that matches, the default when none does. If the first one that may match
// looks at a fact that r lacks and that can be had, it says so: see Decision.Needs. It allocates
// nothing and holds on to nothing of r. Whoever does what it says of a rule with the lifespan once
// calls Take first.
func (rs *RuleSet) Decide(r *abi.Request) Decision {
	if r.Event < abi.EventCount {
		if root := rs.lists[r.Event].root; root != nil {
			if i := rs.search(root, r, nobody); i != nobody {
				return rs.decision(i, r)
			}
		}
	}
	return rs.fallback
}

// decision returns what rule i decides about a request that it matches.
func (rs *RuleSet) decision(i int32, r *abi.Request) Decision {
	t := &rs.thens[rs.all[i].then]
	d := t.Decision
	d.Rule = i
	if t.only != 0 && r.Access&^t.only != 0 {
		d.Verdict = tooMuch
	}
	if rs.lists[r.Event].consulted&abi.ContentFields != 0 {
		if c := rs.needs(&rs.all[i], r); c != none {
			d.Verdict, d.Once = Verdict{Action: NeedsFormat + Action(c-condFormat)}, false
		}
	}
	return d
}

// Once reports whether rule i has the lifespan once. The default has not.
func (rs *RuleSet) Once(i int32) bool { return i >= 0 && rs.all[i].once }

// tooMuch is the verdict on an open that asks for more than a rule allows.
var tooMuch = Verdict{Deny, errnoByName("EACCES")}

// matches reports whether rule i matches a request.
func (rs *RuleSet) matches(i int32, r *abi.Request) bool {
	m := &rs.all[i]
	if m.once && rs.spent(i) {
		return false
	}
	return rs.fails(&m.match, r) == none && (m.not == 0 || rs.fails(&rs.nots[m.not], r) != none) && (m.when == 0 || rs.whens[m.when].holds(r))
}

// fails returns the first condition that does not hold, none when all do. The
// order is cheapest first, and the same for Decide and Explain.
func (p *pool) fails(c *conditions, r *abi.Request) condition {
	if c.access != 0 && r.Access&c.access == 0 {
		return condAccess
	}
	if c.ids != 0 {
		if f := p.idsFail(&p.ids[c.ids], r); f != none {
			return f
		}
	}
	if c.has&abi.FieldArgs != 0 {
		for i := range p.argsOf(c) {
			if !p.args[c.args.at+uint32(i)].holds(r) {
				return condArgs
			}
		}
		if c.addr != 0 && !p.addrs[c.addr].holds(r) {
			return condArgs
		}
	}
	if c.path.kind != noTexts && !p.holds(c.path, factPath, r) {
		return condPath
	}
	if c.detail.kind != noTexts && !p.holds(c.detail, factDetail, r) {
		return condDetail
	}
	if c.exe.kind != noTexts && !p.holds(c.exe, factExe, r) {
		return condExe
	}
	if c.content != 0 {
		return p.contents[c.content].fails(r)
	}
	return none
}

func (p *pool) argsOf(c *conditions) []argMatch { return p.args[c.args.at : c.args.at+c.args.n] }

// blocks returns the conditions of a rule, those of its not block last.
func (rs *RuleSet) blocks(m *matcher) []*conditions {
	if m.not == 0 {
		return []*conditions{&m.match}
	}
	return []*conditions{&m.match, &rs.nots[m.not]}
}

// consulted returns which facts a rule looks at, and which numbers of a request of this
// event, a bit each.
func (rs *RuleSet) consulted(m *matcher, e abi.Event) (fields abi.Fields, args uint8) {
	if rs.thens[m.then].only != 0 {
		fields = abi.FieldAccess
	}
	if w := rs.whens[m.when]; w != nil {
		fields |= w.consulted()
		args = w.args(e)
	}
	for _, c := range rs.blocks(m) {
		fields |= c.has
		for _, a := range rs.argsOf(c) {
			args |= 1 << a.at[e] // abi.Args shifts out
		}
		if c.addr != 0 {
			a := &rs.addrs[c.addr]
			args |= 1<<a.family[e] | 1<<a.high[e] | 1<<a.low[e]
		}
	}
	return fields, args
}

func (a *argMatch) holds(r *abi.Request) bool {
	i := a.at[r.Event]
	if i >= abi.Args {
		return false
	}
	v := r.Arg[i]
	if a.ranges == nil {
		return bitTest{a.all, a.any}.holds(v)
	}
	return inRanges(a.ranges, v)
}

func (p *pool) idsFail(s *subjectIDs, r *abi.Request) condition {
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
	case s.tree != 0 && r.Trees&p.treeBits[s.tree] == 0:
		return condTree
	}
	if s.size != nil && !inRanges(s.size, fileSize(r)) {
		return condSize
	}
	if c := s.attributes.fails(r); c != none {
		return c
	}
	return s.credentials.fails(r)
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
func inCgroup(list []cgroupID, of *[abi.CgroupLevels]uint64) bool {
	for _, id := range of {
		if id == 0 {
			return false
		}
		for i := range list {
			if id == list[i].id {
				return true
			}
		}
	}
	return false
}

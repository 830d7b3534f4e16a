// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A classifier finds the first rule that matches a request without looking at all of
// them. Each rule is filed under what it demands of one fact, the demand that it shares
// with the fewest others: a path, the directory or the name that a glob fixes, a user, a
// port, a network. A request is looked up by what it has, and only the rules found are
// compared with it in full, so an index may say too much and never too little. Where many
// rules share a demand, they are filed again below it, by another fact.
//
// It costs what the request has (the bytes of its path, some lookups) and the rules that
// are found, not those that are there. Rules that can be filed under nothing are compared
// one after another.

// node is a group of rules, filed.
type node struct {
	first    int32   // the lowest rule in it
	rest     []int32 // rules that are not filed, in rising order: too few, or they demand too little
	texts    []textIndex
	numbers  []numberIndex
	cgroups  *table
	nets     *netIndex
	contents []contentIndex
}

// ref is what an index leads to: 0 nothing, below 0 the rule ^ref, else a node.
type ref int32

// nobody is above every rule.
const nobody = math.MaxInt32

// search returns the first rule in n that matches and is before best, else best. It
// allocates nothing.
func (rs *RuleSet) search(n *node, r *abi.Request, best int32) int32 {
	for _, i := range n.rest {
		if i >= best {
			break
		}
		if rs.matches(i, r) {
			best = i
			break
		}
	}
	for i := range n.texts {
		best = rs.searchText(&n.texts[i], r, best)
	}
	for i := range n.numbers {
		x := &n.numbers[i]
		v := x.fact.number(r)
		best = rs.find(&x.values, spread(v), r, best)
		best = rs.searchSpans(x.spans, v, r, best)
	}
	if n.cgroups != nil {
		for _, id := range r.Cgroup {
			if id == 0 {
				break
			}
			best = rs.find(n.cgroups, spread(id), r, best)
		}
	}
	if n.nets != nil {
		best = rs.searchNets(n.nets, r, best)
	}
	for i := range n.contents {
		best = rs.searchContent(&n.contents[i], r, best)
	}
	return best
}

// follow goes where an index leads.
func (rs *RuleSet) follow(to ref, r *abi.Request, best int32) int32 {
	switch {
	case to < 0:
		if i := int32(^to); i < best && rs.matches(i, r) {
			return i
		}
	case to > 0:
		if n := rs.nodes[to]; n.first < best {
			return rs.search(n, r, best)
		}
	}
	return best
}

// table maps hashes of keys to refs. It holds no keys: all that lie together under an equal
// tag are followed, the one that is meant and any other, and the comparison in full decides.
type table struct {
	slots []slot
	shift uint8 // of a hash, for its first slot
}

type slot struct {
	tag uint32
	to  ref // 0: free
}

// newTable returns an empty table with room for n keys.
func newTable(n int) table {
	bits := 1
	for 1<<bits < n+n/3+1 {
		bits++
	}
	return table{slots: make([]slot, 1<<bits), shift: uint8(64 - bits)}
}

// find follows what a hash leads to.
func (rs *RuleSet) find(t *table, hash uint64, r *abi.Request, best int32) int32 {
	if len(t.slots) == 0 {
		return best
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash >> t.shift; ; i++ {
		s := &t.slots[i&mask]
		if s.to == 0 {
			return best
		}
		if s.tag == uint32(hash) {
			best = rs.follow(s.to, r, best)
		}
	}
}

// leads reports whether find would follow anything.
func (t *table) leads(hash uint64) bool {
	if len(t.slots) == 0 {
		return false
	}
	mask := uint64(len(t.slots) - 1)
	for i := hash >> t.shift; ; i++ {
		if s := &t.slots[i&mask]; s.to == 0 || s.tag == uint32(hash) {
			return s.to != 0
		}
	}
}

// put adds a key.
func (t *table) put(hash uint64, to ref) {
	mask := uint64(len(t.slots) - 1)
	i := hash >> t.shift
	for t.slots[i&mask].to != 0 {
		i++
	}
	t.slots[i&mask] = slot{uint32(hash), to}
}

// spread makes a hash of a number: Fibonacci hashing, and the high bits folded down.
func spread(v uint64) uint64 {
	v ^= v >> 32
	v *= 0x9e3779b97f4a7c15
	return v ^ v>>29
}

// fact is a number of a request, or one of its texts.
type fact uint8

const (
	factPath fact = iota
	factDetail
	factExe
	factUID
	factGID
	factEUID
	factEGID
	factOwner
	factGroup
	factSize
	factLogin
	factSession
	factCgroup
	factAddr
	factVerity
	factDigest
	factArg0 // and the others
	factEnd  = factArg0 + abi.Args
)

func (f fact) number(r *abi.Request) uint64 {
	switch f {
	case factUID:
		return uint64(r.UID)
	case factGID:
		return uint64(r.GID)
	case factEUID:
		return uint64(r.EUID)
	case factEGID:
		return uint64(r.EGID)
	case factOwner:
		return attribute(r, r.OwnerUID)
	case factGroup:
		return attribute(r, r.OwnerGID)
	case factSize:
		return fileSize(r)
	case factLogin:
		if !r.Credentials.Known {
			return unknownNumber
		}
		return uint64(r.Credentials.LoginUID)
	case factSession:
		if !r.Credentials.Known {
			return unknownNumber
		}
		return uint64(r.Credentials.Session)
	}
	return r.Arg[(f-factArg0)%abi.Args]
}

// numberIndex files by the value of a number.
type numberIndex struct {
	fact   fact
	values table  // single ones
	spans  []span // ranges, by their first value
}

// span is a range in an implicit tree: the middle one of a slice is the root of it.
type span struct {
	lo, hi uint64
	top    uint64 // highest hi in the slice
	to     ref
	first  int32 // lowest rule in the slice
}

func (rs *RuleSet) searchSpans(spans []span, v uint64, r *abi.Request, best int32) int32 {
	for len(spans) > 0 {
		mid := len(spans) / 2
		s := &spans[mid]
		if v > s.top || s.first >= best {
			return best
		}
		best = rs.searchSpans(spans[:mid], v, r, best)
		if v < s.lo {
			return best
		}
		if v <= s.hi {
			best = rs.follow(s.to, r, best)
		}
		spans = spans[mid+1:]
	}
	return best
}

// plant makes the implicit tree of spans that are sorted by lo, and returns what its root
// has of the whole.
func (rs *RuleSet) plant(spans []span) (top uint64, first int32) {
	if len(spans) == 0 {
		return 0, nobody
	}
	mid := len(spans) / 2
	s := &spans[mid]
	lowTop, lowFirst := rs.plant(spans[:mid])
	highTop, highFirst := rs.plant(spans[mid+1:])
	s.top, s.first = max(s.hi, lowTop, highTop), min(rs.firstOf(s.to), lowFirst, highFirst)
	return s.top, s.first
}

// firstOf returns the lowest rule that a ref leads to.
func (rs *RuleSet) firstOf(to ref) int32 {
	if to < 0 {
		return int32(^to)
	}
	return rs.nodes[to].first
}

// netIndex files by the network that an address is in: a table for each length of a prefix.
type netIndex struct {
	high, low uint8 // indexes in Request.Arg
	lengths   []netLength
}

type netLength struct {
	highMask, lowMask uint64
	nets              table
}

func (rs *RuleSet) searchNets(x *netIndex, r *abi.Request, best int32) int32 {
	high, low := r.Arg[x.high%abi.Args], r.Arg[x.low%abi.Args]
	for i := range x.lengths {
		l := &x.lengths[i]
		best = rs.find(&l.nets, netHash(high&l.highMask, low&l.lowMask), r, best)
	}
	return best
}

func netHash(high, low uint64) uint64 { return spread(spread(high) ^ low) }

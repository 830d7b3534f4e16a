// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// textIndex files by a text of the request: its path, its second one, or its executable.
// One pass over the bytes finds all that fits, but for ends.
type textIndex struct {
	fact   fact
	wholes textTable // the text itself
	begins textTable // beginnings of it that end in '/', and
	odd    textTable // others
	names  textTable // the last component
	parts  textTable // beginnings of a component, wherever it is,
	firsts [4]uint64 // and the bytes that they begin with, a bit each
	ends   textTable // ends of it
}

// textTable is a table of texts. Most that are looked for have a length that none in it has.
type textTable struct {
	table
	*lengths
}

// lengths is a set of lengths of texts, in bytes.
type lengths [abi.PathBytes/64 + 1]uint64

func (l *lengths) has(n int) bool { return l != nil && l[n>>6]>>(n&63)&1 != 0 }
func (l *lengths) add(n int)      { l[n>>6] |= 1 << (n & 63) }

// The hash of a text goes from byte to byte: FNV-1a, with spread behind it.
const (
	hashStart = 14695981039346656037
	hashPrime = 1099511628211
)

func hashOn(h uint64, c byte) uint64 { return (h ^ uint64(c)) * hashPrime }

// hashText hashes a text forward.
func hashText(s string) uint64 {
	h := uint64(hashStart)
	for i := range len(s) {
		h = hashOn(h, s[i])
	}
	return h
}

// hashEnd hashes a text backward.
func hashEnd(s string) uint64 {
	h := uint64(hashStart)
	for i := len(s) - 1; i >= 0; i-- {
		h = hashOn(h, s[i])
	}
	return h
}

// of returns the text in a request; false when there is none that a rule can match.
func (f fact) of(r *abi.Request) ([]byte, bool) {
	switch f {
	case factPath:
		return r.PathBuf[:min(r.PathLen, abi.PathBytes)], r.Flags&(abi.FlagPathTruncated|abi.FlagNoObject) == 0
	case factDetail:
		return r.DetailBuf[:min(r.DetailLen, abi.PathBytes)], r.Flags&abi.FlagDetailTruncated == 0
	}
	return r.ExeBuf[:min(r.ExeLen, abi.PathBytes)], r.Flags&abi.FlagNoExe == 0
}

// put makes s the text in a request, which it returns.
func (f fact) put(r *abi.Request, s string) *abi.Request {
	switch f {
	case factPath:
		r.PathLen = uint32(copy(r.PathBuf[:], s))
	case factDetail:
		r.DetailLen = uint32(copy(r.DetailBuf[:], s))
	default:
		r.ExeLen = uint32(copy(r.ExeBuf[:], s))
	}
	return r
}

func (rs *RuleSet) searchText(x *textIndex, r *abi.Request, best int32) int32 {
	b, ok := x.fact.of(r)
	if !ok {
		return best
	}
	whole, part := uint64(hashStart), uint64(hashStart)
	from := 0 // of the component
	parts := 0
	begins := false // a part, as far as the first byte of the component tells
	for i, c := range b {
		whole = hashOn(whole, c)
		if c == '/' {
			if x.begins.has(i + 1) {
				best = rs.find(&x.begins.table, spread(whole), r, best)
			}
			part, from = hashStart, i+1
			continue
		}
		part = hashOn(part, c)
		if i == from {
			begins = x.firsts[c>>6]>>(c&63)&1 != 0
		}
		if begins && x.parts.has(i+1-from) && parts < manyParts && x.parts.leads(spread(part)) {
			if parts++; parts == manyParts {
				best = rs.searchParts(x, b, r, best)
			} else {
				best = rs.find(&x.parts.table, spread(part), r, best)
			}
		}
		if x.odd.has(i + 1) {
			best = rs.find(&x.odd.table, spread(whole), r, best)
		}
	}
	if x.wholes.has(len(b)) {
		best = rs.find(&x.wholes.table, spread(whole), r, best)
	}
	if x.names.has(len(b) - from) {
		best = rs.find(&x.names.table, spread(part), r, best)
	}
	if x.ends.lengths != nil {
		end := uint64(hashStart)
		for n := 1; n <= len(b); n++ {
			end = hashOn(end, b[len(b)-n])
			if x.ends.has(n) {
				best = rs.find(&x.ends.table, spread(end), r, best)
			}
		}
	}
	return best
}

// manyParts is how many parts of one text are followed without remembering them: more than
// those of a path that nobody has thought out lead anywhere.
const manyParts = 64

// searchParts looks all parts of a text up and follows each ref once, however often the
// text names it: the requester chooses the text.
func (rs *RuleSet) searchParts(x *textIndex, b []byte, r *abi.Request, best int32) int32 {
	var followed [2 * abi.PathBytes]ref // a hash table; a text has a part at each byte at most
	n := 0
	t := &x.parts
	mask := uint64(len(t.slots) - 1)
	part, from := uint64(hashStart), 0
	for i, c := range b {
		if c == '/' {
			part, from = hashStart, i+1
			continue
		}
		part = hashOn(part, c)
		if !x.parts.has(i + 1 - from) {
			continue
		}
		hash := spread(part)
		for at := hash >> t.shift; t.slots[at&mask].to != 0; at++ {
			s := &t.slots[at&mask]
			if s.tag != uint32(hash) {
				continue
			}
			home := spread(uint64(uint32(s.to)))
			for followed[home%uint64(len(followed))] != 0 && followed[home%uint64(len(followed))] != s.to {
				home++
			}
			if seen := &followed[home%uint64(len(followed))]; *seen == 0 {
				if n++; n <= abi.PathBytes { // else the tags are equal by design of whoever wrote the rules
					*seen = s.to
				}
				best = rs.follow(s.to, r, best)
			}
		}
	}
	return best
}

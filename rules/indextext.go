// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// textIndex files by a text of the request: its path, its second one, or its executable.
// One pass over the bytes finds all that fits, but for ends.
type textIndex struct {
	fact   fact
	wholes table // the text itself
	// Beginnings of it. Those that end in '/' are looked up behind each '/', the others
	// at each length that there is one of.
	begins table
	odd    *lengths
	names  table // the last component
	// Beginnings of a component, wherever it is, at each length that there is one of.
	parts       table
	partLengths *lengths
	ends        table // ends of it
	endLengths  *lengths
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

func (rs *RuleSet) searchText(x *textIndex, r *abi.Request, best int32) int32 {
	b, ok := x.fact.of(r)
	if !ok {
		return best
	}
	whole, part := uint64(hashStart), uint64(hashStart)
	from := 0 // of the component
	parts := 0
	for i, c := range b {
		whole = hashOn(whole, c)
		if c == '/' {
			best = rs.find(&x.begins, spread(whole), r, best)
			part, from = hashStart, i+1
			continue
		}
		part = hashOn(part, c)
		if x.partLengths.has(i+1-from) && parts < manyParts && x.parts.has(spread(part)) {
			if parts++; parts == manyParts {
				best = rs.searchParts(x, b, r, best)
			} else {
				best = rs.find(&x.parts, spread(part), r, best)
			}
		}
		if x.odd.has(i + 1) {
			best = rs.find(&x.begins, spread(whole), r, best)
		}
	}
	best = rs.find(&x.wholes, spread(whole), r, best)
	best = rs.find(&x.names, spread(part), r, best)
	if x.endLengths != nil {
		end := uint64(hashStart)
		for n := 1; n <= len(b); n++ {
			end = hashOn(end, b[len(b)-n])
			if x.endLengths.has(n) {
				best = rs.find(&x.ends, spread(end), r, best)
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
		if !x.partLengths.has(i + 1 - from) {
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

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

	wholesAlone bool // the other tables are empty
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
	if !ok || x.wholesAlone && !x.wholes.has(len(b)) {
		return best
	}
	whole := uint64(hashStart)
	parts := 0 // followed
	for from := 0; ; {
		part, to := component(b, from)
		if from < to && x.firsts[b[from]>>6]>>(b[from]&63)&1 != 0 {
			best, parts = rs.searchBeginnings(x, b[:to], from, r, best, parts)
		}
		if x.odd.lengths != nil {
			best = rs.searchOdd(x, b[:to], from, whole, r, best)
		}
		if from < to || to < len(b) { // what ends in a slash has no component behind it
			whole = join(whole, part)
		}
		if to == len(b) {
			if x.names.has(to - from) {
				best = rs.find(&x.names.table, spread(part), r, best)
			}
			break
		}
		if from = to + 1; x.begins.has(from) {
			best = rs.find(&x.begins.table, spread(whole), r, best)
		}
	}
	if x.wholes.has(len(b)) {
		best = rs.find(&x.wholes.table, spread(whole), r, best)
	}
	if x.ends.lengths != nil {
		end := uint64(endStart)
		for n := 1; n <= len(b); n++ {
			end = endOn(end, b[len(b)-n])
			if x.ends.has(n) {
				best = rs.find(&x.ends.table, spread(end), r, best)
			}
		}
	}
	return best
}

// searchOdd looks beginnings of a text up that end within the component from from on to the
// end of b; whole is the hash of what is before it.
func (rs *RuleSet) searchOdd(x *textIndex, b []byte, from int, whole uint64, r *abi.Request, best int32) int32 {
	p := beginning{b: b, at: from, hash: hashStart}
	for to := from + 1; to <= len(b); to++ {
		if x.odd.has(to) {
			best = rs.find(&x.odd.table, spread(join(whole, p.upTo(to))), r, best)
		}
	}
	return best
}

// manyParts is how many parts of one text are followed without remembering them: more than
// those of a path that nobody has thought out lead anywhere.
const manyParts = 64

// searchBeginnings looks the beginnings of the component up that is from from on to the end
// of b. It returns how many parts of the text have been followed.
func (rs *RuleSet) searchBeginnings(x *textIndex, b []byte, from int, r *abi.Request, best int32, parts int) (int32, int) {
	p := beginning{b: b, at: from, hash: hashStart}
	for to := from + 1; to <= len(b) && parts < manyParts; to++ {
		if !x.parts.has(to - from) {
			continue
		}
		hash := spread(p.upTo(to))
		if !x.parts.leads(hash) {
			continue
		}
		if parts++; parts == manyParts {
			whole, _ := x.fact.of(r)
			return rs.searchParts(x, whole, r, best), parts
		}
		best = rs.find(&x.parts.table, hash, r, best)
	}
	return best, parts
}

// searchParts looks all parts of a text up and follows each ref once, however often the
// text names it: the requester chooses the text.
func (rs *RuleSet) searchParts(x *textIndex, b []byte, r *abi.Request, best int32) int32 {
	var followed [2 * abi.PathBytes]ref // a hash table; a text has a part at each byte at most
	n := 0
	t := &x.parts
	mask := uint64(len(t.slots) - 1)
	p := beginning{b: b, hash: hashStart}
	from := 0
	for i, c := range b {
		if c == '/' {
			from = i + 1
			p.at, p.hash = from, hashStart
			continue
		}
		if !x.parts.has(i + 1 - from) {
			continue
		}
		hash := spread(p.upTo(i + 1))
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

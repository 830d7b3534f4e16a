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
	for i, c := range b {
		whole = hashOn(whole, c)
		if c == '/' {
			best = rs.follow(x.begins.get(spread(whole)), r, best)
			part, from = hashStart, i+1
			continue
		}
		part = hashOn(part, c)
		if x.partLengths.has(i + 1 - from) {
			best = rs.follow(x.parts.get(spread(part)), r, best)
		}
		if x.odd.has(i + 1) {
			best = rs.follow(x.begins.get(spread(whole)), r, best)
		}
	}
	best = rs.follow(x.wholes.get(spread(whole)), r, best)
	best = rs.follow(x.names.get(spread(part)), r, best)
	if x.endLengths != nil {
		end := uint64(hashStart)
		for n := 1; n <= len(b); n++ {
			end = hashOn(end, b[len(b)-n])
			if x.endLengths.has(n) {
				best = rs.follow(x.ends.get(spread(end)), r, best)
			}
		}
	}
	return best
}

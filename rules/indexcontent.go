// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// contentIndex files by one fact of the content of the object, which may not be known.
type contentIndex struct {
	fact    fact
	values  table
	unknown *node // the same rules, filed by other facts
}

func (f fact) ofContent() bool { return f == factVerity || f == factDigest }

// content returns what the object of a request is to be found under, false when that is not known.
func (f fact) content(r *abi.Request) (k key, known bool) {
	if f == factVerity {
		return verityKey(&r.Verity), r.Verity.Alg != abi.VerityUnknown
	}
	return digestKey(r.Digest), r.Flags&abi.FlagDigest != 0
}

func (rs *RuleSet) searchContent(x *contentIndex, r *abi.Request, best int32) int32 {
	if k, known := x.fact.content(r); known {
		return rs.find(&x.values, netHash(k.a, k.b), r, best)
	}
	if x.unknown.first < best {
		return rs.search(x.unknown, r, best)
	}
	return best
}

// newContentIndex makes the index of a fact from its groups, all but unknown.
func newContentIndex(f fact, groups []group) contentIndex {
	x := contentIndex{fact: f, values: newTable(len(groups))}
	for _, g := range groups {
		x.values.put(netHash(g.a, g.b), g.to)
	}
	return x
}

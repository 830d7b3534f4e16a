// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math/bits"
	"slices"
)

// counts says how many rules share a demand, sometimes a few more: of others that have the same
// place in number. That is enough to choose by.
type counts struct {
	number     []int32           // by place; a power of two of them
	from, upTo [factEnd][]uint64 // first and last numbers of all ranges, sorted
	chosen     []key             // the last ones that were the best
}

// mostPlaces bounds number, to 16 MiB: where there are more keys, most are those of sets that many
// rules name.
const mostPlaces = 1 << 22

// count forgets everything, and counts the keys of these rules.
func (c *counts) count(rules [][]demand) {
	c.reset(rules)
	for _, ds := range rules {
		for _, d := range ds {
			c.add(&d)
		}
	}
	for f := range c.from {
		slices.Sort(c.from[f])
		slices.Sort(c.upTo[f])
	}
}

// reset makes room for the keys of these rules. Few share a place, and the places fit into a
// cache of the CPU.
func (c *counts) reset(rules [][]demand) {
	keys := 0
	for _, ds := range rules {
		for _, d := range ds {
			for _, part := range d.parts {
				keys += len(part)
			}
		}
	}
	n := min(1<<bits.Len(uint(2*keys)), mostPlaces)
	if n > cap(c.number) {
		c.number = make([]int32, n)
	}
	c.number = c.number[:n]
	clear(c.number)
	for f := range c.from {
		c.from[f], c.upTo[f] = c.from[f][:0], c.upTo[f][:0]
	}
}

// place returns where the number of rules with k is.
func (c *counts) place(k key) *int32 {
	what := uint64(k.fact)<<56 | uint64(k.kind)<<48 | uint64(k.n)<<8 | uint64(k.first)
	return &c.number[spread(k.a^spread(k.b^what))&uint64(len(c.number)-1)]
}

func (c *counts) add(d *demand) {
	for _, part := range d.parts {
		for _, k := range part {
			switch k.kind {
			case keySpan:
				c.from[d.fact], c.upTo[d.fact] = append(c.from[d.fact], k.a), append(c.upTo[d.fact], k.b)
			case keyNumber:
				c.from[d.fact], c.upTo[d.fact] = append(c.from[d.fact], k.a), append(c.upTo[d.fact], k.a)
			default:
				*c.place(k)++
			}
		}
	}
}

// of returns about how many rules may be found where one is that is filed under k.
func (c *counts) of(k key) int {
	hi := k.b
	switch k.kind {
	case keySpan:
	case keyNumber:
		hi = k.a
	default:
		return int(*c.place(k))
	}
	// All ranges but those that begin behind it and those that end before it.
	begun, _ := slices.BinarySearch(c.from[k.fact], hi+1)
	if hi+1 == 0 {
		begun = len(c.from[k.fact])
	}
	ended, _ := slices.BinarySearch(c.upTo[k.fact], k.a)
	return begun - ended
}

// best returns the keys to file a rule under: of the fact of which it demands what the
// fewest others do. They are good until the next call. Nil: filing does not help.
func (c *counts) best(ds []demand, all int) []key {
	var best *demand
	least := all
	for i := range ds {
		most := 0
		for _, part := range ds[i].parts {
			_, n := c.fewest(part)
			most = max(most, n)
		}
		if most < least {
			best, least = &ds[i], most
		}
	}
	if best == nil {
		return nil
	}
	c.chosen = c.chosen[:0]
	for _, part := range best.parts {
		k, _ := c.fewest(part)
		c.chosen = append(c.chosen, k)
	}
	return c.chosen
}

// fewest returns the key of a part under which the fewest rules are found, and how many.
func (c *counts) fewest(part []key) (k key, n int) {
	for i := range part {
		if of := c.of(part[i]); i == 0 || of < n {
			k, n = part[i], of
		}
	}
	return k, n
}

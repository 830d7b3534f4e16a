// SPDX-License-Identifier: Apache-2.0

package digest

// cache remembers digests by stamp, in fixed memory. When it is full the hand of a clock
// goes round, and takes the first entry that was not used since it last came by.
type cache struct {
	entries []entry
	at      map[stamp]int32 // in entries
	hand    int
	most    int
}

type entry struct {
	stamp stamp
	sum   [32]byte
	used  bool
}

func newCache(entries int) *cache {
	return &cache{at: make(map[stamp]int32), most: entries}
}

func (c *cache) get(s stamp) (sum [32]byte, ok bool) {
	i, ok := c.at[s]
	if !ok {
		return sum, false
	}
	e := &c.entries[i]
	e.used = true
	return e.sum, true
}

func (c *cache) put(s stamp, sum [32]byte) {
	if i, ok := c.at[s]; ok {
		c.entries[i].sum = sum
		return
	}
	if len(c.entries) < c.most {
		c.at[s] = int32(len(c.entries))
		c.entries = append(c.entries, entry{stamp: s, sum: sum})
		return
	}
	for c.entries[c.hand].used {
		c.entries[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.entries)
	}
	e := &c.entries[c.hand]
	delete(c.at, e.stamp)
	*e = entry{stamp: s, sum: sum}
	c.at[s] = int32(c.hand)
	c.hand = (c.hand + 1) % len(c.entries)
}

// SPDX-License-Identifier: Apache-2.0

package content

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// cache remembers by stamp what files were read in full for, in fixed memory. When it is full the
// hand of a clock goes round, and takes the first entry that was not used since it last came by.
type cache struct {
	entries []entry
	at      map[stamp]int32 // in entries
	hand    int
	most    int
}

type entry struct {
	stamp   stamp
	content abi.Content
	used    bool
}

func newCache(entries int) *cache {
	return &cache{at: make(map[stamp]int32), most: entries}
}

func (c *cache) get(s stamp) (abi.Content, bool) {
	i, ok := c.at[s]
	if !ok {
		return abi.Content{}, false
	}
	e := &c.entries[i]
	e.used = true
	return e.content, true
}

func (c *cache) put(s stamp, found abi.Content) {
	if i, ok := c.at[s]; ok {
		c.entries[i].content = found
		return
	}
	if len(c.entries) < c.most {
		c.at[s] = int32(len(c.entries))
		c.entries = append(c.entries, entry{stamp: s, content: found})
		return
	}
	for c.entries[c.hand].used {
		c.entries[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.entries)
	}
	e := &c.entries[c.hand]
	delete(c.at, e.stamp)
	*e = entry{stamp: s, content: found}
	c.at[s] = int32(c.hand)
	c.hand = (c.hand + 1) % len(c.entries)
}

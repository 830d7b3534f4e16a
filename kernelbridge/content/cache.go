// SPDX-License-Identifier: Apache-2.0

package content

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// cache remembers by stamp what files were read in full for, in fixed memory. When it is full the
// hand of a clock goes round, and takes the first entry that was not used since it last came by.
type cache struct {
	entries []entry
	at      map[stamp]int32 // in entries
	hand    int
	most    int
}

type entry struct {
	stamp stamp
	known known
	used  bool
}

// known is what was found out about a file.
type known struct {
	abi.Content
	edition string    // that the scanner had before it looked; "": nobody knew
	scanned time.Time // when it began to
}

// join takes over of a what k lacks: both are of one content.
func (k *known) join(a *known) {
	if k.Known&abi.FieldScan == 0 && a.Known&abi.FieldScan != 0 {
		k.Known |= abi.FieldScan
		k.Scan, k.Signature, k.edition, k.scanned = a.Scan, a.Signature, a.edition, a.scanned
	}
}

func newCache(entries int) *cache {
	return &cache{at: make(map[stamp]int32), most: entries}
}

func (c *cache) get(s stamp) (known, bool) {
	i, ok := c.at[s]
	if !ok {
		return known{}, false
	}
	e := &c.entries[i]
	e.used = true
	return e.known, true
}

func (c *cache) put(s stamp, found known) {
	if i, ok := c.at[s]; ok {
		found.join(&c.entries[i].known)
		c.entries[i].known = found
		return
	}
	if len(c.entries) < c.most {
		c.at[s] = int32(len(c.entries))
		c.entries = append(c.entries, entry{stamp: s, known: found})
		return
	}
	for c.entries[c.hand].used {
		c.entries[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.entries)
	}
	e := &c.entries[c.hand]
	delete(c.at, e.stamp)
	*e = entry{stamp: s, known: found}
	c.at[s] = int32(c.hand)
	c.hand = (c.hand + 1) % len(c.entries)
}

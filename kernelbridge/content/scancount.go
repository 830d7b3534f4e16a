// SPDX-License-Identifier: Apache-2.0

package content

import (
	"sync/atomic"
	"time"
)

// scanSpans are the bounds by which scans are counted, each with all that took less.
var scanSpans = [...]struct {
	most time.Duration
	name string
}{{time.Millisecond, "1ms"}, {10 * time.Millisecond, "10ms"}, {100 * time.Millisecond, "100ms"}, {time.Second, "1s"}, {10 * time.Second, "10s"}}

// scanCounters count what the scanner has said, and how long it took.
type scanCounters struct {
	done, infected atomic.Uint64
	within         [len(scanSpans)]atomic.Uint64
}

func (c *scanCounters) count(took time.Duration, infected bool) {
	for i := range scanSpans {
		if took <= scanSpans[i].most {
			c.within[i].Add(1)
		}
	}
	if infected {
		c.infected.Add(1)
	}
	c.done.Add(1)
}

func (c *scanCounters) add(to map[string]uint64) {
	to["scan.done"], to["scan.infected"] = c.done.Load(), c.infected.Load()
	for i := range scanSpans {
		to["scan.within_"+scanSpans[i].name] = c.within[i].Load()
	}
}

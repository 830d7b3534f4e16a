// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC, the clock of the kernel side's time stamps, by way
// of the Go runtime's own monotonic clock, which is the same one: a vDSO call, no
// system call and no allocation. ClockGettime would be a system call.
type clock struct {
	start  time.Time
	offset int64 // CLOCK_MONOTONIC at start, nanoseconds
}

// newClock puts the two beside each other by the quickest of some system calls: the time was
// read in the middle of it.
func newClock() (c clock) {
	shortest := time.Duration(math.MaxInt64)
	for range 16 {
		var ts unix.Timespec
		before := time.Now()
		// CLOCK_MONOTONIC cannot fail with a valid pointer (clock_gettime(2)).
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
		if took := time.Since(before); took < shortest {
			shortest, c = took, clock{start: before.Add(took / 2), offset: ts.Nano()}
		}
	}
	return c
}

// now returns CLOCK_MONOTONIC in nanoseconds.
func (c clock) now() int64 { return c.offset + int64(time.Since(c.start)) }

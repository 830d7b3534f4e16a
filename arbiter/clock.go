// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
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

func newClock() clock {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail with a valid pointer (clock_gettime(2)).
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return clock{start: time.Now(), offset: ts.Nano()}
}

// now returns CLOCK_MONOTONIC in nanoseconds.
func (c clock) now() int64 { return c.offset + int64(time.Since(c.start)) }

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC in nanoseconds by way of the Go runtime's own
// monotonic clock: no system call, no allocation.
type clock struct {
	start  time.Time
	offset int64
}

func newClock() clock {
	var ts unix.Timespec
	// CLOCK_MONOTONIC cannot fail with a valid pointer (clock_gettime(2)).
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return clock{start: time.Now(), offset: ts.Nano()}
}

func (c clock) now() int64 { return c.offset + int64(time.Since(c.start)) }

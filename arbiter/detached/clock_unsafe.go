// SPDX-License-Identifier: Apache-2.0

package detached

import _ "unsafe" // for linkname

//go:linkname nanotime runtime.nanotime
func nanotime() int64

// Now returns CLOCK_MONOTONIC in nanoseconds, the clock of the kernel side's time stamps: it
// is the Go runtime's own monotonic clock, a vDSO call. It may be called by any goroutine,
// detached or not.
//
//go:nosplit
func Now() int64 { return nanotime() }

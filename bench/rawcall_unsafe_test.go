// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sleepCall returns a call that takes so long.
func sleepCall(d time.Duration) call {
	t := unix.NsecToTimespec(int64(d))
	heap := &t
	return call{name: "clock_nanosleep", trap: unix.SYS_CLOCK_NANOSLEEP, a1: unix.CLOCK_MONOTONIC, a3: uintptr(unsafe.Pointer(heap)),
		again: unix.EINTR, path: (*byte)(unsafe.Pointer(heap))}
}

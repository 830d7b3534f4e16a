// SPDX-License-Identifier: Apache-2.0

package ringtest

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sleep is nanosleep(2) without a word to the Go runtime: the thread keeps its processor, and
// nobody else has to run for it to go on. It ends early when a signal comes. For a thread with a
// processor to spare.
func Sleep(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
}

// kickOnce is write(2) to an eventfd that does not block, likewise. Its error does not matter: the
// eventfd is full then, which wakes as well.
func kickOnce(fd int) {
	one := uint64(1)
	unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&one)), unsafe.Sizeof(one))
}

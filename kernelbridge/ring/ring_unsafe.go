// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Sizes of the two shared areas, bytes.
const (
	HeaderBytes = int(unsafe.Sizeof(Header{}))
	SlotsBytes  = int(unsafe.Sizeof([abi.Slots]Slot{}))
)

// headerOf views mapped memory of at least HeaderBytes as the header. The
// memory is page-aligned and not the Go heap's, so the collector has no say in it.
func headerOf(b []byte) *Header { return (*Header)(unsafe.Pointer(unsafe.SliceData(b))) }

// slotsOf views mapped memory of at least SlotsBytes as the slots.
func slotsOf(b []byte) *[abi.Slots]Slot {
	return (*[abi.Slots]Slot)(unsafe.Pointer(unsafe.SliceData(b)))
}

// SlotOf views mapped memory of at least one slot's size as a slot.
func SlotOf(b []byte) *Slot { return (*Slot)(unsafe.Pointer(unsafe.SliceData(b))) }

// ppoll is ppoll(2), and reports whether a descriptor is ready. What is not attached does not tell
// the Go runtime that it blocks.
//
//go:nosplit
func ppoll(fds *[2]unix.PollFd, d time.Duration, attached bool) bool {
	timeout := unix.Timespec{Sec: int64(d / time.Second), Nsec: int64(d % time.Second)}
	var n uintptr
	var errno syscall.Errno
	if attached {
		n, _, errno = syscall.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(fds)), uintptr(len(fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	} else {
		n, _, errno = syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(fds)), uintptr(len(fds)), uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	}
	return errno == 0 && n > 0
}

// read8 reads 8 bytes of a descriptor that does not block, an eventfd's.
//
//go:nosplit
func read8(fd int) {
	var b [8]byte
	syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&b)), uintptr(len(b)))
}

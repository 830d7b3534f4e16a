// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// fuseDevIocClone is FUSE_DEV_IOC_CLONE, _IOR(229, 0, uint32_t).
const fuseDevIocClone = 0x8004e500

// cloneDevice makes fd, a fresh /dev/fuse, another channel of the connection of to.
func cloneDevice(fd, to int) error {
	arg := uint32(to)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fuseDevIocClone, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

// epollWait is epoll_pwait2(2), for epoll_wait has a timeout in milliseconds only, and returns
// how many events there are. What is not attached does not tell the Go runtime that it blocks.
//
//go:nosplit
func epollWait(epoll int, events *[3]unix.EpollEvent, d time.Duration, attached bool) int {
	timeout := unix.Timespec{Sec: int64(max(d, 0) / time.Second), Nsec: int64(max(d, 0) % time.Second)}
	var n uintptr
	var errno syscall.Errno
	if attached {
		n, _, errno = syscall.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(events)), uintptr(len(events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	} else {
		n, _, errno = syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(events)), uintptr(len(events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

// read and write are those of a descriptor that does not block, so the Go scheduler is not
// told: that takes longer, and could cost the worker its processor. They take no error
// value, which would have to be allocated for some.
//
//go:nosplit
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := syscall.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

//go:nosplit
func write(fd int, b []byte) unix.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return errno
}

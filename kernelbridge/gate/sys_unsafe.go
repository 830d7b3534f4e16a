// SPDX-License-Identifier: Apache-2.0

package gate

import (
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

// epollWait is epoll_pwait2(2): epoll_wait has a timeout in milliseconds only.
func epollWait(epoll int, events []unix.EpollEvent, d time.Duration) (int, unix.Errno) {
	timeout := unix.NsecToTimespec(int64(max(d, 0)))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))),
		uintptr(len(events)), uintptr(unsafe.Pointer(&timeout)), 0, 0)
	return int(n), errno
}

// read and write are those of a descriptor that does not block, so the Go scheduler is not
// told: that takes longer, and could cost the worker its processor. They take no error
// value, which would have to be allocated for some.
func read(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func write(fd int, b []byte) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return errno
}

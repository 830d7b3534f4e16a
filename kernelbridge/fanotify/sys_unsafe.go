// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below take paths as NUL-terminated bytes in memory that the caller
// owns: the wrappers of x/sys take strings and allocate a copy for every call.

// openat opens the NUL-terminated path below dir.
func openat(dir int, path []byte, flags int) (int, unix.Errno) {
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(flags), 0, 0, 0)
	return int(fd), errno
}

// readlinkat reads the link at the NUL-terminated path below dir into buf and
// returns its length.
func readlinkat(dir int, path, buf []byte) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), 0, 0)
	return int(n), errno
}

// statxat fills st from the NUL-terminated path below dir, or from dir itself
// when flags has AT_EMPTY_PATH and path is just a NUL.
func statxat(dir int, path []byte, flags int, st *unix.Statx_t) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_STATX, uintptr(dir), uintptr(unsafe.Pointer(unsafe.SliceData(path))),
		uintptr(flags), unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, uintptr(unsafe.Pointer(st)), 0)
	return errno
}

// queueBytes returns what FIONREAD (TIOCINQ is its other name) says of the group fd: the kernel counts 24
// bytes for each unread event.
func queueBytes(fd int) int {
	var n int32
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCINQ, uintptr(unsafe.Pointer(&n))); errno != 0 {
		return 0
	}
	return int(n)
}

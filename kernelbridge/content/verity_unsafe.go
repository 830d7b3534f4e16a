// SPDX-License-Identifier: Apache-2.0

package content

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// measureVerity is the ioctl FS_IOC_MEASURE_VERITY. The kernel writes d.size bytes behind alg and
// size at most, so d.size must be len(d.sum) or less.
func measureVerity(fd int, d *verityDigest) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.FS_IOC_MEASURE_VERITY, uintptr(unsafe.Pointer(d)))
	return errno
}

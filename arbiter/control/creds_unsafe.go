// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peerGroups returns the supplementary groups of the process that opened the
// connection (SO_PEERGROUPS, Linux 4.13). x/sys has the number and no wrapper.
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		length := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(unsafe.SliceData(groups))), uintptr(unsafe.Pointer(&length)), 0)
		switch {
		case errno == 0:
			return groups[:length/4], nil
		case errno == unix.ERANGE && int(length/4) > len(groups):
			groups = make([]uint32, length/4) // the kernel says how much it needs
		default:
			return nil, fmt.Errorf("reading SO_PEERGROUPS: %w", errno)
		}
	}
}

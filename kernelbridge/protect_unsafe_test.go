// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// openMapID opens a map by its id, with BPF_F_RDONLY among flags for reading alone, as
// bpftool does to list maps. cilium/ebpf opens maps for reading and writing only.
func openMapID(id, flags uint32) error {
	attr := struct{ id, next, flags uint32 }{id: id, flags: flags}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_GET_FD_BY_ID, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if errno != 0 {
		return errno
	}
	return unix.Close(int(fd))
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Raw system calls: without the Go scheduler's bookkeeping on entry and exit, so
// that both sides cost what they cost a C program. The memory that is handed in
// belongs to the caller and is on the heap (all of it is a field of a structure
// that escapes), which does not move.

// openatCall returns the call openat(dirfd, path, O_RDONLY|O_CLOEXEC). The path
// stays reachable as long as the process lives: a child opens one.
func openatCall(dirfd int, path string) (call, error) {
	b, err := unix.BytePtrFromString(path)
	if err != nil {
		return call{}, fmt.Errorf("opening %q: %w", path, err)
	}
	return call{
		name: "openat", trap: unix.SYS_OPENAT,
		a1: uintptr(dirfd), a2: uintptr(unsafe.Pointer(b)), a3: unix.O_RDONLY | unix.O_CLOEXEC,
		returnsFD: true, path: b,
	}, nil
}

// renameatCall returns the call renameat(dirfd, from, dirfd, to), and every second time
// that which takes it back.
func renameatCall(dirfd int, from, to string) (call, error) {
	b, err := unix.BytePtrFromString(from)
	if err != nil {
		return call{}, fmt.Errorf("renaming %q: %w", from, err)
	}
	other, err := unix.BytePtrFromString(to)
	if err != nil {
		return call{}, fmt.Errorf("renaming to %q: %w", to, err)
	}
	return call{
		name: "renameat", trap: unix.SYS_RENAMEAT,
		a1: uintptr(dirfd), a2: uintptr(unsafe.Pointer(b)), a3: uintptr(dirfd), a4: uintptr(unsafe.Pointer(other)),
		swaps: true, path: b, other: other,
	}, nil
}

// fgetxattrCall returns the call fgetxattr(fd, name, buffer, size).
func fgetxattrCall(fd int, name string, size int) (call, error) {
	b, err := unix.BytePtrFromString(name)
	if err != nil {
		return call{}, fmt.Errorf("asking for the attribute %q: %w", name, err)
	}
	buf := make([]byte, size)
	return call{
		name: "fgetxattr", trap: unix.SYS_FGETXATTR,
		a1: uintptr(fd), a2: uintptr(unsafe.Pointer(b)), a3: uintptr(unsafe.Pointer(unsafe.SliceData(buf))), a4: uintptr(size),
		again: unix.ENODATA, path: b, buf: buf,
	}, nil
}

func rawRead(fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func rawWriteResponse(fd int, r *unix.FanotifyResponse) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(r)), unsafe.Sizeof(*r))
	return errno
}

// fanotifyEvent returns the event at the start of b, which has at least
// eventBytes bytes and is aligned to 8 (it is the start of a heap object of that
// size class).
func fanotifyEvent(b []byte) unix.FanotifyEventMetadata {
	return *(*unix.FanotifyEventMetadata)(unsafe.Pointer(unsafe.SliceData(b)))
}

const eventBytes = int(unsafe.Sizeof(unix.FanotifyEventMetadata{}))

// seccompData, seccompNotif and seccompResp mirror linux/seccomp.h.
type seccompData struct {
	nr   int32
	arch uint32
	ip   uint64
	args [6]uint64
}

type seccompNotif struct {
	id    uint64
	pid   uint32
	flags uint32
	data  seccompData
}

type seccompResp struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

func rawReceive(fd int, n *seccompNotif) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(n)))
	return errno
}

func rawSend(fd int, r *seccompResp) unix.Errno {
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(r)))
	return errno
}

// rawReady reports whether fd is readable now.
func rawReady(p *unix.PollFd) (bool, unix.Errno) {
	// ppoll with a zero timeout: poll(2) does not exist on every architecture.
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n == 1, errno
}

// installFilter puts the calling thread, and no other, under a seccomp filter, and
// returns the listener if flags ask for one.
func installFilter(filter []unix.SockFilter, flags uintptr) (int, unix.Errno) {
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&prog)))
	return int(fd), errno
}

// rawWait waits for a child or a traced thread.
func rawWait(pid int, status *unix.WaitStatus, options int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_WAIT4, uintptr(pid), uintptr(unsafe.Pointer(status)), uintptr(options), 0, 0, 0)
	return int(r), errno
}

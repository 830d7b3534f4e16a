// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// From include/uapi/linux/io_uring.h.
const (
	uringSQPoll   = 1 << 1 // flags of io_uring_setup(2)
	uringAsync    = 1 << 4 // flags of an entry
	uringGet      = 1 << 0 // flags of io_uring_enter(2)
	uringWake     = 1 << 1
	uringSQEs     = 0x10000000
	uringSQEBytes = 64
)

type uringParams struct {
	sqEntries, cqEntries, flags, cpu, idle, features, wq uint32
	_                                                    [3]uint32
	sq                                                   struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cq struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// sqe is one request to io_uring.
type sqe struct {
	opcode, flags uint8
	ioprio        uint16
	fd            int32
	off, addr     uint64
	len, opFlags  uint32
	userData      uint64
	buf           uint16
	personality   uint16
	addrLen       uint16
	_             uint16
	_             [2]uint64
}

// uring is an io_uring for one request at a time.
type uring struct {
	fd          int
	flags       uint32
	p           uringParams
	rings, sqes []byte
}

func setupURing(flags uint32) (*uring, error) {
	r := &uring{flags: flags, p: uringParams{flags: flags, idle: 10}}
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 4, uintptr(unsafe.Pointer(&r.p)), 0)
	if errno != 0 {
		return nil, errno
	}
	r.fd = int(fd)
	// Its workers stay off the CPU of the worker that answers, as the subject does: there
	// they could not be answered where nothing can wait.
	const registerAffinity = 17
	cpus := [8]byte{1}
	if _, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, fd, registerAffinity, uintptr(unsafe.Pointer(&cpus)), uintptr(len(cpus)), 0, 0); errno != 0 {
		unix.Close(r.fd)
		return nil, fmt.Errorf("before: pinning the workers of an io_uring: %v", errno)
	}
	var err error
	if r.rings, err = unix.Mmap(r.fd, 0, int(r.p.cq.cqes+16*r.p.cqEntries+4*r.p.sqEntries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err == nil {
		r.sqes, err = unix.Mmap(r.fd, uringSQEs, int(r.p.sqEntries)*uringSQEBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	}
	if err != nil {
		r.close()
		return nil, fmt.Errorf("before: mapping an io_uring: %v", err)
	}
	return r, nil
}

func (r *uring) close() {
	if r.rings != nil {
		unix.Munmap(r.rings)
	}
	if r.sqes != nil {
		unix.Munmap(r.sqes)
	}
	unix.Close(r.fd)
}

func (r *uring) word(offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.rings[offset])) }

// personality registers the credentials of this thread.
func (r *uring) personality() (uint16, error) {
	const register = 9
	id, _, errno := unix.Syscall6(unix.SYS_IO_URING_REGISTER, uintptr(r.fd), register, 0, 0, 0, 0)
	return uint16(id), sysno(0, 0, errno)
}

// submit has the kernel do one request and returns its result as an error.
func (r *uring) submit(e sqe) error {
	*(*sqe)(unsafe.Pointer(&r.sqes[0])) = e
	*r.word(r.p.sq.array) = 0
	tail := r.word(r.p.sq.tail)
	*r.word(r.p.sq.array + 4*(*tail&*r.word(r.p.sq.mask))) = 0
	atomic.AddUint32(tail, 1)
	head, flags, n := r.word(r.p.cq.head), uintptr(uringGet), uintptr(1)
	if r.flags&uringSQPoll != 0 {
		flags |= uringWake
	}
	for atomic.LoadUint32(r.word(r.p.cq.tail)) == *head {
		_, _, errno := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), n, 1, flags, 0, 0)
		if errno != 0 && errno != unix.EINTR {
			return fmt.Errorf("before: entering the io_uring: %v", errno)
		}
		n = 0
	}
	at := r.p.cq.cqes + 16*(*head&*r.word(r.p.cq.mask))
	res := *(*int32)(unsafe.Pointer(&r.rings[at+8]))
	atomic.AddUint32(head, 1)
	if res < 0 {
		return unix.Errno(-res)
	}
	return nil
}

// address returns where the kernel finds b; keep it alive.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(&b[0]))) }

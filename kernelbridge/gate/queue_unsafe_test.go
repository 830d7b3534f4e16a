// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"os"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// queue is what the tests have for a ring: thread ids and answers in memory that the
// sleepers, which are processes of their own, share.
type queue struct {
	sleeps atomic.Uint64
	posted [abi.Slots / 64]atomic.Uint64
	slots  [abi.Slots]struct {
		tid  atomic.Uint32
		done atomic.Uint32
	}
}

// newQueue returns a queue and its memory's file, for children.
func newQueue(t testing.TB) (*queue, *os.File) {
	t.Helper()
	fd, err := unix.MemfdCreate("queue", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "queue")
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(int64(unsafe.Sizeof(queue{}))); err != nil {
		t.Fatal(err)
	}
	q, b, err := mapQueue(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(b) })
	return q, f
}

func mapQueue(fd int) (*queue, []byte, error) {
	b, err := unix.Mmap(fd, 0, int(unsafe.Sizeof(queue{})), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return (*queue)(unsafe.Pointer(unsafe.SliceData(b))), b, nil
}

func (q *queue) Sleeps() uint64 { return q.sleeps.Load() }

func (q *queue) State(slot int, tid uint32) State {
	s := &q.slots[slot]
	done := s.done.Load() != 0
	switch {
	case tid == 0 || s.tid.Load() != tid:
		return Foreign
	case done:
		return Answered
	}
	return Waiting
}

// post makes slot the question of task tid.
func (q *queue) post(slot int, tid int) {
	s := &q.slots[slot]
	s.done.Store(0)
	s.tid.Store(uint32(tid))
	q.posted[slot/64].Or(1 << (slot % 64))
}

// free ends the question, as its requester does.
func (q *queue) free(slot int) { q.slots[slot].tid.Store(0) }

func (q *queue) answered(slot int) bool { return q.slots[slot].done.Load() != 0 }

// answer makes the slot's word DONE and says whether it was not yet.
func (q *queue) answer(slot int) bool {
	s := &q.slots[slot]
	return s.tid.Load() != 0 && s.done.CompareAndSwap(0, 1)
}

// attributeZ is Attribute with its NUL.
var attributeZ = [...]byte{'u', 's', 'e', 'r', '.', 'a', 'r', 'b', 'i', 't', 'e', 'r', 0}

// rawGetxattr is fgetxattr without the Go scheduler: what a task in a BPF program does.
func rawGetxattr(fd int, b []byte) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_FGETXATTR, uintptr(fd), uintptr(unsafe.Pointer(&attributeZ)),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0, 0)
	return errno
}

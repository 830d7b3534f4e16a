// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// kicker consumes the BPF ring buffer that wakes parked workers. Its records mean
// nothing: a kick is the wake-up. BPF has no futex; a ring buffer is what it can
// wake a poll(2) with on every kernel we support.
type kicker struct {
	consumer, producer *uint64 // positions, the first words of the first two pages
}

// newKicker maps the two position pages (see ringbuf_map_mmap_kern: the first is
// writable, the second read-only).
func (q *queue) newKicker(m *ebpf.Map) (*kicker, error) {
	page := unix.Getpagesize()
	c, err := q.mmap(m, 0, page, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, err
	}
	p, err := q.mmap(m, int64(page), page, unix.PROT_READ)
	if err != nil {
		return nil, err
	}
	return &kicker{
		consumer: (*uint64)(unsafe.Pointer(unsafe.SliceData(c))),
		producer: (*uint64)(unsafe.Pointer(unsafe.SliceData(p))),
	}, nil
}

// DrainKicks takes all kicks. See ring.Kick. Several workers may do it at once: whichever store is
// last, a kick that it did not cover keeps the buffer readable.
//
//go:nosplit
func (k *kicker) DrainKicks() {
	for {
		c, p := atomic.LoadUint64(k.consumer), atomic.LoadUint64(k.producer)
		if c >= p || atomic.CompareAndSwapUint64(k.consumer, c, p) {
			return
		}
	}
}

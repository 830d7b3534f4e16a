// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"sync/atomic"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Which rung of the wait ladder the requesters took, as far as the words of their slots say it.

// Slept returns how many of this worker's answers went to a requester that had gone to sleep by
// then. It may be called from any goroutine.
//
//go:nosplit
func (s *Source) Slept() uint64 { return s.slept.Load() }

// Claims returns how many times slots were claimed since New: once for each question, and once
// more when a system call that was unwound runs again, whose hook claims a slot before it
// finds its verdict. Each slot is counted modulo 2^32, so take the difference of two calls. It
// may be called from any goroutine.
func (r *Ring) Claims() (n uint64) {
	for i := range r.slots {
		n += uint64(abi.Word(atomic.LoadUint64(&r.slots[i].Word)).Gen() - abi.FirstGen)
	}
	return n
}

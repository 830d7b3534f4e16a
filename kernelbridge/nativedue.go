// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"slices"
	"time"
)

const (
	// dueAhead is how far ahead one program run looks: what is due later has to wait for
	// the next one. A run is not interrupted, as with runChunk.
	dueAhead = 500 * time.Microsecond
	// dueEarly is how long before its time an ask is handed to the kernel: longer than a
	// system call takes to enter.
	dueEarly = 20 * time.Microsecond
)

// RunDue asks once at each time of due, ascending, CLOCK_MONOTONIC in nanoseconds, and
// stores in took how long after that time the answer was there, nanoseconds: an ask that
// is late because the one before it was still held counts its delay. The thread polls the
// clock until an ask is near, the program does from then on. CPU and goroutine are as
// with Run.
func (n *Native) RunDue(cpu int, due []int64, took []uint64) error {
	if len(took) < len(due) {
		return errors.New("running the queue: fewer places for durations than times to ask at")
	}
	base, start := time.Now(), monotonic() // from here on without a system call for each look
	return pinned(cpu, func() error {
		for len(due) > 0 {
			now := start + int64(time.Since(base))
			if due[0]-now > int64(dueEarly) {
				continue
			}
			near := now + int64(dueAhead)
			count, _ := slices.BinarySearch(due[:min(len(due), runChunk)], near)
			for i, at := range due[:count] {
				n.samples[i] = uint64(at)
			}
			if _, err := n.runner.once(n.objs.ArbNativeDue, count); err != nil {
				return err
			}
			copy(took, n.samples[:count])
			due, took = due[count:], took[count:]
		}
		return nil
	})
}

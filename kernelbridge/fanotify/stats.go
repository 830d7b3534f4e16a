// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"sync/atomic"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Stats are counters since Open. When nothing is held,
// Events = Answered + Exempt + OutOfScope + Twins + the sum of Failed.
type Stats struct {
	Events     uint64                  // permission events read
	Answered   uint64                  // answered by Reply
	Exempt     uint64                  // own threads and exempt processes: allowed unasked
	OutOfScope uint64                  // not in a tree by its path: allowed unasked
	Twins      uint64                  // second event of an allowed exec: allowed unasked
	Failed     [abi.ReasonCount]uint64 // given the failure verdict by this package
	Late       uint64                  // Reply came after the failure verdict, or the held task was gone
	Overflows  uint64                  // the kernel's queue was full: opens went through unasked
	// ReadErrors counts events that the kernel could not hand over, because it
	// could not open the file for us; it refuses those with EPERM itself.
	ReadErrors  uint64
	ReplyErrors uint64 // the kernel did not take an answer
	Unreported  uint64 // failures that OnFailure was too slow for
	WatchErrors uint64 // directories or mounts that could not be marked after Open
	// StuckReaders counts readers in the watchdog's place that a file system kept
	// waiting, and that were replaced by others.
	StuckReaders uint64

	Mounts, Directories int // marked now
	Unasked             int // places in the trees that are not asked about now, see Warnings
}

// counters are the writable side of Stats. All are shared by the workers: each
// event costs several system calls, beside which a contended add is nothing.
type counters struct {
	events, answered, exempt, outOfScope, twins, late atomic.Uint64
	overflows, readErrors, replyErrors, watchErrors   atomic.Uint64
	unreported, stuck                                 atomic.Uint64
	mounts, dirs, unasked                             atomic.Int64
	failed                                            [abi.ReasonCount]atomic.Uint64
}

// Stats returns the counters. It may be called from anywhere at any time, and waits
// for nothing.
func (b *Backend) Stats() Stats {
	c := &b.counters
	s := Stats{Answered: c.answered.Load(), Exempt: c.exempt.Load(), OutOfScope: c.outOfScope.Load(),
		Twins: c.twins.Load(), Late: c.late.Load(), Overflows: c.overflows.Load(), ReadErrors: c.readErrors.Load(),
		ReplyErrors: c.replyErrors.Load(), WatchErrors: c.watchErrors.Load(), Unreported: c.unreported.Load(), StuckReaders: c.stuck.Load(),
		Mounts: int(c.mounts.Load()), Directories: int(c.dirs.Load()), Unasked: int(c.unasked.Load())}
	for i := range s.Failed {
		s.Failed[i] = c.failed[i].Load()
	}
	s.Events = c.events.Load()
	return s
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxReaders bounds the readers that file systems keep waiting. Each has a thread
// and 20 KiB.
const maxReaders = 64

// reader reads the queue in the watchdog's place. To read an event the kernel opens
// the event's file for us, and closing it flushes it: both can wait for a server
// that never answers, where no signal helps. So the watchdog gives a reader up and
// starts another one.
type reader struct {
	own   *Source
	req   abi.Request
	jobs  chan readJob // closed: end
	busy  atomic.Bool  // it has a job
	given atomic.Bool  // up: another one is in its place
	since atomic.Int64 // when the event at hand was begun, 0: none
	left  atomic.Int64 // events of the job that come after it
}

// readJob is what to read and give the failure verdict.
type readJob struct {
	n           int  // at most so many events
	untilServed bool // instead: all, at once, until the first worker comes
}

func startReader(b *Backend) *reader {
	// Room for one: the watchdog waits for nobody.
	r := &reader{own: newReader(b), jobs: make(chan readJob, 1)}
	b.readers.Add(1)
	go func() {
		defer func() {
			b.readers.Add(-1)
			b.signalLeft()
		}()
		for j := range r.jobs {
			if j.untilServed {
				r.serve()
			} else {
				r.read(j.n)
			}
			r.busy.Store(false)
		}
	}()
	return r
}

// try hands the reader a job. False when it has one.
func (r *reader) try(j readJob) bool {
	if !r.busy.CompareAndSwap(false, true) {
		return false
	}
	r.jobs <- j // there is room: only the watchdog sends, and the last one was taken
	return true
}

// giveUp ends the reader as soon as the event at hand lets it.
func (r *reader) giveUp() {
	r.given.Store(true)
	close(r.jobs)
}

// read reads up to n events and gives them their failure verdicts. False when there
// were fewer.
func (r *reader) read(n int) bool {
	defer r.since.Store(0)
	for i := range n {
		r.left.Store(int64(n - i - 1))
		if r.given.Load() {
			return false
		}
		r.since.Store(r.own.b.clock.now())
		found, ask := r.own.take(&r.req)
		if !found {
			return false
		}
		if !ask {
			continue
		}
		v := r.own.b.settings.Load().onFail[r.own.held.event]
		if r.own.b.closing.Load() {
			v = abi.Verdict{} // as for all whom the end of the group lets go
		}
		r.own.give(v, abi.ReasonNoWorker)
	}
	return true
}

// unserved reports whether no worker comes: not yet, or no more.
func (b *Backend) unserved() bool { return !b.served.Load() || b.closing.Load() }

// takeOver is the first worker's. Who asks after it has returned is not answered by a
// reader that had looked before whether a worker comes, unless a file system keeps that
// reader for longer than maxTick.
func (b *Backend) takeOver() {
	b.served.Store(true)
	for until := b.clock.now() + int64(maxTick); b.serving.Load() > 0 && b.clock.now() < until; {
		unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
	}
}

// serve answers at once, our own scan first of all, until a worker comes or the
// backend closes.
func (r *reader) serve() {
	b := r.own.b
	fds := []unix.PollFd{
		{Fd: int32(b.end), Events: unix.POLLIN},
		{Fd: int32(b.group), Events: unix.POLLIN},
	}
	for b.unserved() && !r.given.Load() {
		n, err := unix.Poll(fds, int(maxTick.Milliseconds()))
		if err == nil && n > 0 && fds[0].Revents != 0 {
			return
		}
		for r.readUnserved() {
		}
	}
}

// readUnserved is read(1) if no worker comes.
func (r *reader) readUnserved() bool {
	b := r.own.b
	b.serving.Add(1) // before the look: see takeOver
	defer b.serving.Add(-1)
	return b.unserved() && r.read(1)
}

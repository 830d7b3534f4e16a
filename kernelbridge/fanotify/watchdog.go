// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxTick is the longest time between two looks of the watchdog, hence between
// two heartbeats.
const maxTick = 250 * time.Millisecond

// watchdog gives every held task a bound. It shares nothing with the workers but
// atomic words, takes no lock that anybody holds across a system call that can
// block, and reads no event itself: see reader.
type watchdog struct {
	b      *Backend
	own    *Source // scratch space to describe failures with
	reader *reader
	tick   time.Duration
	told   bool // that no reader is left
	reply  [8]byte

	// The mark: at markAt the queue reached up to the event number markSeq.
	markAt  int64
	markSeq uint64
}

func newWatchdog(b *Backend) *watchdog {
	w := &watchdog{b: b, own: newReader(b), tick: min(b.opts.HoldLimit/8, maxTick)}
	w.reader = startReader(b)
	w.reader.try(readJob{untilServed: true})
	return w
}

func (w *watchdog) run() {
	b := w.b
	defer b.running.Done()
	defer func() { w.reader.giveUp() }() // the one that it is then
	fds := []unix.PollFd{{Fd: int32(b.end), Events: unix.POLLIN}, {Fd: int32(b.stop), Events: unix.POLLIN}}
	for {
		b.opts.Beat()
		n, err := unix.Poll(fds, max(int(w.tick.Milliseconds()), 1))
		if err == nil && n > 0 && fds[0].Revents != 0 {
			return
		}
		if err == nil && n > 0 {
			fds = fds[:1]
		}
		if b.unserved() {
			// The workers have not come yet, or have gone, and the watcher is not done.
			w.reader.try(readJob{untilServed: true})
		}
		w.look()
	}
}

// look answers what has been held for too long.
func (w *watchdog) look() {
	b, now := w.b, w.b.clock.now()
	for _, s := range b.sources {
		for i := range s.all {
			w.expire(&s.all[i], s, now)
		}
	}
	w.relieve(now)
	// The kernel does not say since when an event waits. So note how far the
	// queue reaches, and see whether the readers have come so far within the limit.
	read := b.counters.events.Load() + b.counters.readErrors.Load() + b.counters.overflows.Load()
	if w.markAt == 0 || read >= w.markSeq {
		waiting := queueBytes(b.group) / unix.FAN_EVENT_METADATA_LEN
		w.markAt, w.markSeq = 0, read+uint64(waiting)
		if waiting > 0 {
			w.markAt = now
		}
		return
	}
	// A reader that is busy gets it at the next look.
	if now-w.markAt >= int64(b.opts.HoldLimit) && w.reader.try(readJob{n: int(w.markSeq - read)}) {
		w.markAt = 0
	}
}

// relieve puts another reader in the place of one that has been in one event for a
// tick: a file system keeps it waiting. When there are too many of those, what is
// queued waits until one comes back. The heart beats on: our end would let nobody go,
// for a thread that waits for a FUSE server cannot be killed and keeps the group open.
func (w *watchdog) relieve(now int64) {
	b := w.b
	since := w.reader.since.Load()
	if since == 0 || now-since < int64(w.tick) {
		w.told = false
		return
	}
	if b.readers.Load() >= maxReaders {
		if !w.told {
			w.told = true
			b.opts.Logger.Error("file systems keep all readers waiting, so held tasks are not answered; end the servers that do not answer (umount -f)",
				slog.Int("readers", maxReaders))
		}
		return
	}
	if b.counters.stuck.Add(1) == 1 {
		b.opts.Logger.Error("a file system keeps a reader waiting for an open of its own; another one takes over, and so each time from now on")
	}
	w.reader.giveUp()
	left := w.reader.left.Load()
	w.reader = startReader(b)
	if b.unserved() {
		w.reader.try(readJob{untilServed: true})
	} else if left > 0 {
		w.reader.try(readJob{n: int(left)}) // their time is over already
	}
}

// expire gives an event that s holds its failure verdict if its time is over.
func (w *watchdog) expire(h *held, s *Source, now int64) {
	b := w.b
	word := h.state.Load()
	if phase(word&(1<<phaseBits-1)) != taken || now-h.since.Load() < int64(b.opts.HoldLimit) {
		return
	}
	if !h.state.CompareAndSwap(word, word&^(1<<phaseBits-1)|uint64(expiring)) {
		return // answered in this very moment
	}
	// fd, event and tid are stable until we say expired.
	v := b.settings.Load().onFail[h.event]
	if s.write(w.reply[:], h.fd, response(v)) {
		// Not the object's numbers where a server might be asked for them.
		b.report(w.own.describe(h.fd, h.event, h.tid, !b.opts.AskRemote), abi.ReasonDeadline, v)
	}
	h.state.Store(word&^(1<<phaseBits-1) | uint64(expired))
}

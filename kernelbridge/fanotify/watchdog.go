// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxTick is the longest time between two looks of the watchdog, hence between
// two heartbeats.
const maxTick = 250 * time.Millisecond

// watchdog gives every held task a bound. It shares nothing with the workers but
// atomic words, and takes no lock that anybody holds across a system call that
// can block.
type watchdog struct {
	b     *Backend
	own   *Source // to read the queue with when nobody else does
	req   abi.Request
	reply [8]byte

	// The mark: at markAt the queue reached up to the event number markSeq.
	markAt  int64
	markSeq uint64
}

func (w *watchdog) run() {
	defer w.b.running.Done()
	b := w.b
	tick := min(b.opts.HoldLimit/8, maxTick)
	fds := []unix.PollFd{
		{Fd: int32(b.stop), Events: unix.POLLIN},
		{Fd: int32(b.group), Events: unix.POLLIN},
	}
	for {
		b.opts.Beat()
		polled := fds[:1]
		if !b.served.Load() {
			polled = fds // no worker yet: answer at once, our own scan first of all
		}
		n, err := unix.Poll(polled, max(int(tick.Milliseconds()), 1))
		if err == nil && n > 0 && fds[0].Revents != 0 {
			return
		}
		for !b.served.Load() && w.drain(1, abi.ReasonNoWorker) {
		}
		w.look()
	}
}

// look answers what has been held for too long.
func (w *watchdog) look() {
	b, now := w.b, w.b.clock.now()
	for _, s := range b.sources {
		w.expire(s, now)
	}
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
	if now-w.markAt >= int64(b.opts.HoldLimit) {
		w.drain(int(w.markSeq-read), abi.ReasonNoWorker)
		w.markAt = 0
	}
}

// drain reads up to n events and gives them their failure verdicts. False when there
// were fewer.
func (w *watchdog) drain(n int, reason abi.Reason) bool {
	for range n {
		found, ask := w.own.take(&w.req)
		if !found {
			return false
		}
		if ask {
			w.own.fail(reason)
		}
	}
	return true
}

// expire gives the event that s holds its failure verdict if its time is over.
func (w *watchdog) expire(s *Source, now int64) {
	b, h := w.b, &s.held
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
		b.report(w.own.describe(h.fd, h.event, h.tid), abi.ReasonDeadline, v)
	}
	h.state.Store(word&^(1<<phaseBits-1) | uint64(expired))
}

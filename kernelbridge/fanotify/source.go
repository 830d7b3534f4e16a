// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// phase is where the event that a source holds is in its life. The worker makes
// every change but taken → expiring → expired, which are the watchdog's, and
// taken → closed, which is Close's.
type phase uint64

const (
	idle      phase = iota // nothing held
	taken                  // read, not answered
	answering              // the worker is writing the answer
	expiring               // the watchdog is writing the failure verdict
	expired                // it has; the worker closes the descriptors when it comes
	closed                 // Close has answered by closing the group
	phaseBits = 3
)

// held is an event that a source has open. The word state (ticket and
// phase) decides who answers: exactly one side's compare-and-swap succeeds. The
// other fields are written while idle, and published by the store of taken.
type held struct {
	state atomic.Uint64
	since atomic.Int64 // CLOCK_MONOTONIC, nanoseconds
	fd    int32        // of the file, ours
	event abi.Event
	tid   uint32

	// The worker's alone.
	pidfd  int32  // of the thread, -1 when there is none
	tgid   uint32 // 0 when not known yet
	gone   bool   // the thread was gone when we looked
	infoOK bool   // the source's info is about this thread
	statOK bool   // the source's stat is about this file
	ticket uint64
}

func (h *held) word(p phase) uint64 { return h.ticket<<phaseBits | uint64(p) }

// passesPerNext bounds how many events one Next answers by itself (exempt, out
// of scope) before it lets its caller look at the rest of the world.
const passesPerNext = 32

// Source is one worker's view of the backend: it implements arbiter.Source. All
// but Wake belongs to one goroutine.
type Source struct {
	b      *Backend
	held   *held       // at hand
	all    []held      // it, and those that are set aside
	inside atomic.Bool // the owner is in Next, Reply or Park
	wait   [2]unix.EpollEvent
	epfd   int
	wake   int

	event [eventBytes]byte
	reply [8]byte
	info  unix.PidfdInfo
	stat  unix.Statx_t
	poll  [1]unix.PollFd
	name  [64]byte        // NUL-terminated name below /proc
	buf   [procBytes]byte // contents of a /proc file

	cgroups cgroupCache

	mu   sync.Mutex // Wake against close: a closed number may be another file by now
	shut bool

	_ [64]byte // the next source's line is its own
}

// newReader returns a source that can take and answer, but not park.
func newReader(b *Backend) *Source {
	s := &Source{b: b, epfd: -1, wake: -1, all: newHeld(1)}
	s.held = &s.all[0]
	return s
}

func newSource(b *Backend) (*Source, error) {
	s := newReader(b)
	s.all = newHeld(mostHeld)
	s.held = &s.all[0]
	var err error
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, err
	}
	if s.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		s.close()
		return nil, err
	}
	// EPOLLEXCLUSIVE: one event wakes one parked worker, not all of them.
	for _, e := range []unix.EpollEvent{
		{Events: unix.EPOLLIN, Fd: int32(s.wake)},
		{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE, Fd: int32(b.group)},
	} {
		if err := unix.EpollCtl(s.epfd, unix.EPOLL_CTL_ADD, int(e.Fd), &e); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *Source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return
	}
	s.shut = true
	for _, fd := range []int{s.wake, s.epfd} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// enter and leave bracket what touches descriptors, so that Close can wait for
// the owner to be out before it closes them.
func (s *Source) enter() bool {
	s.inside.Store(true)
	if s.b.closing.Load() {
		s.leave()
		return false
	}
	return true
}

func (s *Source) leave() {
	s.inside.Store(false)
	s.b.signalLeft()
}

// Next reads the next event that has to be asked and fills r with its facts.
// False when nothing waits. PostedNS is the time of the read: the kernel does
// not say when the task began to wait.
func (s *Source) Next(r *abi.Request) bool {
	if !s.enter() {
		return false
	}
	defer s.leave()
	if !s.b.served.Load() {
		s.b.takeOver()
	}
	if s.held.state.Load() != s.held.word(idle) {
		// A worker that never replied: its question ends here.
		s.fail(abi.ReasonWorkerError)
	}
	for range passesPerNext {
		found, ask := s.take(r)
		if !found {
			return false
		}
		if ask && s.gather(r) {
			return true
		}
	}
	return false
}

// take reads one event and answers it right away if it needs no asking. found
// is false when there was none; ask is true when r has the object and the event
// is still open.
func (s *Source) take(r *abi.Request) (found, ask bool) {
	b, h := s.b, s.held
	n, err := unix.Read(b.group, s.event[:b.eventLen])
	switch err {
	case nil:
	case unix.EAGAIN:
		return false, false
	case unix.EINTR:
		return true, false
	default:
		if b.closing.Load() {
			return false, false
		}
		// The kernel could not open the file for us, and has refused the open.
		if b.counters.readErrors.Add(1) == 1 {
			b.opts.Logger.Error("the kernel could not hand an open over and has refused it; from now on read_errors counts them", slog.Any("error", err))
		}
		return true, false
	}
	ev, ok := parseEvent(s.event[:n])
	if !ok {
		b.counters.readErrors.Add(1)
		return true, false
	}
	if b.gone.Load() {
		// Close has not waited any longer: the group, and with it the event, ends
		// without us.
		closeAll(ev.fd, ev.pidfd)
		return false, false
	}
	if ev.overflow || ev.fd < 0 {
		b.counters.overflows.Add(1)
		return true, false
	}
	b.counters.events.Add(1)
	h.ticket += mostHeld
	h.fd, h.event = ev.fd, ev.event
	h.since.Store(b.clock.now())
	h.pidfd, h.tid, h.tgid = ev.pidfd, ev.tid, 0
	h.gone, h.infoOK, h.statOK = false, false, false
	// The watchdog may read fd, event and tid after this store.
	h.state.Store(h.word(taken))

	// Fast path for ourselves: nothing below touches a file system.
	s.identify()
	if s.exempt() {
		s.pass(&b.counters.exempt)
		return true, false
	}
	if h.event == abi.EventOpen && b.twins.pending() && s.twin() {
		s.pass(&b.counters.twins)
		return true, false
	}
	set := b.settings.Load()
	r.Flags = 0
	r.ForgetContent(abi.ContentFields)
	if s.path(r) && !set.covers(r.Path()) {
		s.pass(&b.counters.outOfScope)
		return true, false
	}
	return true, true
}

// pass allows the event at hand unasked.
func (s *Source) pass(counter *atomic.Uint64) {
	if s.answer(unix.FAN_ALLOW) {
		counter.Add(1)
	}
}

// fail gives the event at hand its failure verdict.
func (s *Source) fail(reason abi.Reason) {
	s.give(s.b.settings.Load().onFail[s.held.event], reason)
}

// give gives the event at hand a verdict that is not a worker's.
func (s *Source) give(v abi.Verdict, reason abi.Reason) {
	h := s.held
	f := s.describe(h.fd, h.event, h.tid, true) // before the answer closes the file
	if s.answer(response(v)) {
		s.b.report(f, reason, v)
	}
}

func response(v abi.Verdict) uint32 {
	if v.Allowed() {
		return unix.FAN_ALLOW
	}
	return unix.FAN_DENY
}

// Reply answers the request that Next put into r. False when the failure verdict
// was given meanwhile or the held thread is gone: the answer had no effect. A
// refusal reads EPERM, whatever errno it carries.
func (s *Source) Reply(r *abi.Request, v abi.Verdict) bool {
	if !s.enter() {
		return false
	}
	defer s.leave()
	if r.Ticket != s.held.ticket { // it was set aside
		back, ok := s.resume(r.Ticket)
		if !ok {
			return false
		}
		defer back()
	}
	h := s.held
	// One look at the thread answers two questions: whether anybody still waits,
	// and whether the facts read from /proc since were that thread's.
	gone := s.threadGone()
	var key twinKey
	twin := h.event == abi.EventExec && v.Allowed() && !gone
	if twin {
		// Before the answer: the twin arrives as soon as it is written.
		key = s.twinKey()
		s.b.twins.add(key, s.b.clock.now())
	}
	if !s.answer(response(v)) {
		if twin {
			s.b.twins.consume(key) // no twin, or it has been asked about by now
		}
		s.b.counters.late.Add(1)
		return false
	}
	s.b.counters.answered.Add(1)
	if gone {
		s.b.counters.late.Add(1)
		return false
	}
	return true
}

// answer writes the answer to the event at hand and closes its descriptors,
// once. False when someone else has answered or nobody waits for it.
func (s *Source) answer(resp uint32) bool {
	h := s.held
	won := h.state.CompareAndSwap(h.word(taken), h.word(answering))
	ok := won && s.write(s.reply[:], h.fd, resp)
	if !won {
		// The watchdog is at it, and needs the number of the file until it has
		// written: two system calls that do not block.
		for h.state.Load() == h.word(expiring) {
			unix.Nanosleep(&unix.Timespec{Nsec: 1000}, nil)
		}
	}
	if h.state.Load() != h.word(closed) && h.state.Load() != h.word(idle) {
		s.drop()
	}
	return ok
}

func closeAll(fds ...int32) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(int(fd))
		}
	}
}

// drop closes the descriptors of the event at hand, which has been answered.
func (s *Source) drop() {
	h := s.held
	unix.Close(int(h.fd))
	if h.pidfd >= 0 {
		unix.Close(int(h.pidfd))
		h.pidfd = -1
	}
	h.state.Store(h.word(idle))
}

// write sends one response to the kernel, by way of buf. The kernel finds the
// event by the number of its file, so that number must not have been closed.
func (s *Source) write(buf []byte, fd int32, resp uint32) bool {
	binary.NativeEndian.PutUint32(buf, uint32(fd))
	binary.NativeEndian.PutUint32(buf[4:], resp)
	for {
		switch _, err := unix.Write(s.b.group, buf); err {
		case nil:
			return true
		case unix.EINTR:
		case unix.ENOENT:
			return false // nobody waits for it
		default:
			s.b.counters.replyErrors.Add(1)
			return false
		}
	}
}

// Park blocks until an event may be waiting, Wake was called, or d has passed.
func (s *Source) Park(d time.Duration) {
	if !s.enter() {
		return
	}
	defer s.leave()
	ms := min(max(int((d+time.Millisecond-1)/time.Millisecond), 0), 1<<30)
	n, err := unix.EpollWait(s.epfd, s.wait[:], ms)
	if err != nil {
		return // EINTR by the runtime's own signals: a wake-up like another
	}
	for _, e := range s.wait[:n] {
		if e.Fd == int32(s.wake) {
			unix.Read(s.wake, s.name[:8]) // resets the counter; EAGAIN says that it was
		}
	}
}

// Wake ends the current Park, or the next one. It may be called from anywhere,
// also after Close.
func (s *Source) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shut {
		return
	}
	one := [8]byte{1} // any non-zero count in either byte order
	// EAGAIN: the counter is full, so the wake-up is pending already.
	unix.Write(s.wake, one[:])
}

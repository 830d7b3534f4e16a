// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"log/slog"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxServe bounds what one call of serve reads, sleepers or not.
const maxServe = 2 * abi.Slots

// device is one channel of the connection. What a channel has read must be replied
// to on it.
type device struct {
	// fd does not block. The number stays the same until Close; Abort puts
	// something else under it.
	fd    int
	index int
	buf   []byte // of the one thread that reads here
	left  int    // bytes in buf of a request that serveDetached has left to serve
	out   []byte // its replies that are more than a header
}

// Stats are the gate's counters since Open. Served is separate.
type Stats struct {
	Foreign     uint64 // requests for the attribute by nobody who sleeps in the queue
	Interrupted uint64 // sleeps ended with "not yet" because of a signal
	Expired     uint64 // sleeps ended with "not yet" after MaxSleep
	Late        uint64 // replies to requests that were gone
	Doubled     uint64 // a second request for one slot, which the first gave way to
	Malformed   uint64 // requests that could not be decoded
}

type stats struct {
	foreign, interrupted, expired, late, doubled, malformed atomic.Uint64
}

// Stats returns the counters.
func (g *Gate) Stats() Stats {
	s := &g.stats
	return Stats{s.foreign.Load(), s.interrupted.Load(), s.expired.Load(), s.late.Load(), s.doubled.Load(), s.malformed.Load()}
}

// serve reads and handles requests until there are none, or until it has read the
// requests of limit sleepers, and returns how many those were. It does not block.
func (d *device) serve(g *Gate, limit int) (sleepers int) {
	var m message
	if n := d.left; n > 0 {
		d.left = 0
		if d.handle(g, n, &m) {
			sleepers++
		}
	}
	for range maxServe {
		if sleepers >= limit {
			break
		}
		n, errno := read(d.fd, d.buf)
		switch errno {
		case 0:
		case unix.EAGAIN:
			return sleepers
		case unix.ENOENT, unix.EINTR:
			continue // the request was withdrawn while it was read
		default:
			g.lose(errno)
			return sleepers
		}
		if n == 0 {
			g.lose(errGone) // Abort was here
			return sleepers
		}
		if d.handle(g, n, &m) {
			sleepers++
		}
	}
	return sleepers
}

// serveDetached is serve for workers that are detached (package arbiter/detached), who handle the
// requests of sleepers, and what interrupts those. Not served: the next serve has something to do.
//
//go:nosplit
func (d *device) serveDetached(g *Gate, limit int) (served bool) {
	if d.left > 0 {
		return false
	}
	for range limit {
		n, errno := read(d.fd, d.buf)
		if errno == unix.EAGAIN {
			break
		}
		if errno == unix.ENOENT || errno == unix.EINTR {
			continue // the request was withdrawn while it was read
		}
		if errno != 0 || n <= 0 {
			return false // serve reads again, and finds out why
		}
		b := d.buf[:n]
		if slot, tid, unique, ok := sleeperOf(b); ok && !g.sleep(d, slot, tid, unique) || !ok && g.sleepers.noteInterrupt(interruptOf(b)) {
			continue
		}
		d.left = n
		return false
	}
	return true
}

// handle handles the request of n bytes in d.buf and says whether it is a sleeper's.
func (d *device) handle(g *Gate, n int, m *message) (sleeper bool) {
	if err := decode(d.buf[:n], m); err != nil {
		g.stats.malformed.Add(1)
		if m.unique != 0 {
			g.reply(d, unix.EIO, m.unique)
		}
		return false
	}
	// Fast path: a task that goes to sleep.
	if m.opcode == opGetxattr {
		if m.ours && m.node == rootID && m.size-1 < abi.Slots && !g.sleep(d, int(m.size-1), m.pid, m.unique) {
			return true
		}
		g.stats.foreign.Add(1)
		g.reply(d, unix.ENODATA, m.unique)
		return false
	}
	d.other(g, m)
	return false
}

// other handles what is not a GETXATTR.
func (d *device) other(g *Gate, m *message) {
	g.others.Add(1)
	n := 0
	switch m.opcode {
	case opForget, opBatchForget: // have no reply
		return
	case opInterrupt: // is not replied to but in error
		g.sleepers.interrupt(m.target, g.now.Load())
		return
	case opInit:
		var err error
		if n, err = putInit(d.out, m); err != nil {
			g.logger.Error("starting the FUSE connection", slog.Any("error", err))
		}
	case opGetattr:
		n = putAttr(d.out, m.unique, len(g.image))
	case opRead:
		n = putRead(d.out, m, g.image)
	case opDestroy:
		g.reply(d, 0, m.unique)
		return
	default:
		// The kernel remembers that OPEN, FLUSH, LISTXATTR and the like are
		// not there and does without from then on. An OPEN or FLUSH that is not
		// there succeeds.
		g.reply(d, unix.ENOSYS, m.unique)
		return
	}
	g.finish(write(d.fd, d.out[:n]))
}

// reply sends a reply without a body on d, from any thread.
//
//go:nosplit
func (g *Gate) reply(d *device, errno unix.Errno, unique uint64) {
	var b [outHeaderBytes]byte
	putHeader(b[:], outHeaderBytes, errno, unique)
	g.finish(write(d.fd, b[:]))
}

// finish accounts for a reply that could not be delivered. ENOENT: there is no such
// request (any more). Everything else is the end of the connection, which the next
// read tells.
//
//go:nosplit
func (g *Gate) finish(errno unix.Errno) {
	if errno == unix.ENOENT {
		g.stats.late.Add(1)
	}
}

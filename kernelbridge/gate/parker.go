// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kick is what requesters make readable to wake a worker: see ring.Kick.
type Kick interface {
	DrainKicks()
}

// Parker blocks one worker until a task goes to sleep on the gate, a requester
// kicks, or Wake is called. It satisfies ring.Parker.
type Parker struct {
	gate   *Gate
	device *device
	epoll  int
	kick   int
	wake   int
	drain  Kick
	gone   bool // the device is out of the epoll set
	events [3]unix.EpollEvent

	mu     sync.Mutex // Wake against close: a closed number may be another file by now
	closed bool
}

// Parker returns what worker (0 to Options.Workers-1) parks on. kick is the descriptor of
// drain, which requesters make readable, below 0 for none; it stays the caller's. There is one parker per worker; Close closes it.
func (g *Gate) Parker(worker int, kick int, drain Kick) (*Parker, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, fmt.Errorf("making a parker: %w", errGone)
	}
	if worker < 0 || worker >= len(g.parkers) || g.parkers[worker].Load() != nil {
		return nil, fmt.Errorf("making a parker for worker %d of %d: there is no such worker, or it has one", worker, len(g.parkers))
	}
	p := &Parker{gate: g, device: &g.devices[1+worker], epoll: -1, kick: kick, wake: -1, drain: drain}
	if err := p.open(); err != nil {
		p.close()
		return nil, fmt.Errorf("making a parker: %w", err)
	}
	g.parkers[worker].Store(p)
	return p, nil
}

func (p *Parker) open() (err error) {
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("creating an epoll set: %w", err)
	}
	if p.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("creating an eventfd: %w", err)
	}
	add := func(fd int, events uint32) error {
		return unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
	}
	// Exclusive: one sleeper wakes one worker, not all of them.
	if err = add(p.device.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
		return fmt.Errorf("waiting for requests: %w", err)
	}
	if p.kick >= 0 {
		if err = add(p.kick, unix.EPOLLIN|unix.EPOLLEXCLUSIVE); err != nil {
			return fmt.Errorf("waiting for kicks: %w", err)
		}
	}
	if err = add(p.wake, unix.EPOLLIN); err != nil {
		return fmt.Errorf("waiting for a wake-up: %w", err)
	}
	return nil
}

// Wait blocks the calling thread, for d at most, and reads the first sleeper's
// request. It leaves others for Serve, for the sooner the worker looks at the queue
// the better, and for the next Wait. One thread at a time. After the gate has gone
// it waits for the other two still.
func (p *Parker) Wait(d time.Duration) {
	if p.device.left > 0 || p.poll(d, true) {
		p.device.serve(p.gate, 1)
	}
	if !p.gone && p.gate.lost.Load() {
		// A dead connection is readable for ever.
		p.gone = true
		_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, p.device.fd, nil) // ENOENT after Abort
	}
}

// WaitDetached is Wait, but for requests that are not of sleepers, and the end of the gate. See
// ring.DetachedParker.
//
//go:nosplit
func (p *Parker) WaitDetached(d time.Duration) (served bool) {
	if p.poll(d, false) && !p.device.serveDetached(p.gate, 1) {
		return false
	}
	return p.gone || !p.gate.lost.Load()
}

// poll waits, and reports whether there are requests of sleepers to be read. What is not
// attached does not tell the Go runtime that it blocks.
//
//go:nosplit
func (p *Parker) poll(d time.Duration, attached bool) (sleepers bool) {
	// EINTR by the runtime's own signals is no event: the worker looks and parks again.
	for i := range epollWait(p.epoll, &p.events, d, attached) {
		switch int(p.events[i].Fd) {
		case p.device.fd:
			sleepers = true
		case p.kick:
			p.drain.DrainKicks()
		case p.wake:
			var b [8]byte
			read(p.wake, b[:]) // resets the counter; EAGAIN says that it was
		}
	}
	return sleepers
}

// Serve reads what sleepers' requests there are without blocking. A worker that
// polls calls it when header.sleeps is not Served. Same thread as Wait.
func (p *Parker) Serve() { p.device.serve(p.gate, maxServe) }

// ServeDetached is Serve, but for requests that are not of sleepers. See ring.GateParker.
//
//go:nosplit
func (p *Parker) ServeDetached() (served bool) { return p.device.serveDetached(p.gate, maxServe) }

// Wake ends the current or the next Wait. It may be called from anywhere, also
// after the gate was closed.
func (p *Parker) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	one := [8]byte{1}
	// EAGAIN: the counter is full, so the wake-up is pending already.
	unix.Write(p.wake, one[:])
}

// close releases the descriptors.
func (p *Parker) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return closeAll(p.epoll, p.wake)
}

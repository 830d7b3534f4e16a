// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Kick is what requesters make readable to wake a worker.
type Kick interface {
	// DrainKicks makes it unreadable again. It is called by workers that are detached (package
	// arbiter/detached), several at once.
	DrainKicks()
}

// EventfdKick returns the kick that is an eventfd, which does not block.
func EventfdKick(fd int) Kick { return &eventfdKick{fd} }

type eventfdKick struct{ fd int }

//go:nosplit
func (k *eventfdKick) DrainKicks() { read8(k.fd) }

// FDParker blocks a worker in poll(2) on a descriptor that requesters make
// readable and on one of its own for Wake.
type FDParker struct {
	kick  int
	wake  int
	drain Kick
	fds   [2]unix.PollFd

	mu     sync.Mutex // Wake against Close: a closed number may be another file by now
	closed bool
}

// NewFDParker returns a parker on a kick and its descriptor, which stays the caller's.
// Close the parker when no worker uses it any more.
func NewFDParker(kick int, drain Kick) (*FDParker, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("creating an eventfd to wake a worker: %w", err)
	}
	return &FDParker{kick: kick, wake: wake, drain: drain}, nil
}

// Wait blocks the calling thread. One worker at a time.
func (p *FDParker) Wait(d time.Duration) {
	p.poll(d, true)
}

// WaitDetached is Wait. See DetachedParker.
//
//go:nosplit
func (p *FDParker) WaitDetached(d time.Duration) (served bool) {
	p.poll(d, false)
	return true
}

// poll waits, and tells the Go runtime if attached.
//
//go:nosplit
func (p *FDParker) poll(d time.Duration, attached bool) {
	p.fds[0] = unix.PollFd{Fd: int32(p.kick), Events: unix.POLLIN}
	p.fds[1] = unix.PollFd{Fd: int32(p.wake), Events: unix.POLLIN}
	// An error (EINTR by the runtime's own signals) is a wake-up like another:
	// the worker looks and parks again.
	if !ppoll(&p.fds, d, attached) {
		return
	}
	if p.fds[1].Revents != 0 {
		read8(p.wake) // resets the counter; EAGAIN says that it was
	}
	if p.fds[0].Revents != 0 {
		p.drain.DrainKicks()
	}
}

// Wake ends the current or the next Wait. It may be called from anywhere.
func (p *FDParker) Wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	one := [8]byte{1}
	// EAGAIN: the counter is full, so the wake-up is pending already.
	unix.Write(p.wake, one[:])
}

// Close releases the parker's own descriptor. It may be called more than once.
func (p *FDParker) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if err := unix.Close(p.wake); err != nil {
		return fmt.Errorf("closing a worker's eventfd: %w", err)
	}
	return nil
}

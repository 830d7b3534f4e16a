// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quietFor is how long no request must be under way before nobody is taken to be on
	// its way any more: a task between the look whether the hooks are armed and its slot
	// is there for a microsecond, or for as long as somebody else has its CPU.
	quietFor = 50 * time.Millisecond
	// quietLook is the time between two looks at the slots.
	quietLook = time.Millisecond
)

// ExemptPeer lets another daemon, its guard and its helper go unasked, while it takes over
// from this one or hands over to it: two that ask about each other can wait for each
// other. 0 ends it.
func (b *LSM) ExemptPeer(pid int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	atomic.StoreUint32(&b.queue.Header().PeerTGID, uint32(pid))
	return nil
}

// Drain disarms and detaches the hooks and returns when all who had asked have their
// verdict; the workers must go on answering meanwhile. When ctx ends first, the error
// says how many are left: they go on by their failure verdict, at their bound.
func (b *LSM) Drain(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	b.queue.arm(false)
	err := b.hooks.detachOthers(0)
	b.asked = 0
	for quiet := time.Now(); time.Since(quiet) < quietFor; unix.Poll(nil, int(quietLook.Milliseconds())) {
		open := b.queue.Open()
		if open > 0 {
			quiet = time.Now()
		}
		if ctx.Err() != nil && open > 0 {
			return fmt.Errorf("waiting for who is held: %w: %d go on by their failure verdict", ctx.Err(), open)
		}
	}
	return err
}

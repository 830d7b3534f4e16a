// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Source is where one worker's requests come from and its answers go. Every
// worker has a Source of its own and calls it from one thread; Wake alone may be
// called from anywhere, at any time, also after Close of whatever is behind it.
type Source interface {
	// Next copies the next waiting request into r and takes it: from here on no
	// other worker will. False when nothing is waiting. It never blocks. Whatever it
	// put into r before is answered, or set aside by Hold.
	Next(r *abi.Request) bool
	// Reply answers the request that Next put into r. False when the requester
	// has given up meanwhile: the answer is late, has had no effect, and must
	// not be cached.
	Reply(r *abi.Request, v abi.Verdict) bool
	// Hold sets the request that Next put into r aside: it stays open until Reply, and
	// Next may be called for others. False when the source cannot keep more of them; then
	// it has to be answered before Next is called. Up to abi.MaxHeld are held at once. One
	// that is set aside stays so: to say it again is right, and changes nothing.
	Hold(r *abi.Request) bool
	// Park blocks until a request may be waiting, Wake was called, or d has
	// passed. It costs nothing while it blocks. A request that is posted while
	// the worker is on its way to sleep is not missed.
	Park(d time.Duration)
	// Wake ends the current Park, or the next one if none is under way.
	Wake()
}

// DetachedSource is a Source that serves a worker which is detached from the Go runtime: the
// methods that it has besides do what those do whose names they begin with, and keep to what
// package detached says. A type that embeds one has to have its own: what is promoted is
// called by way of code that is not nosplit.
type DetachedSource interface {
	Source
	// NextDetached is Next. Not served: there is something that only Next sees to.
	NextDetached(r *abi.Request) (taken, served bool)
	// ReplyDetached is Reply.
	ReplyDetached(r *abi.Request, v abi.Verdict) (inTime bool)
	// ParkDetached is Park. Not served: there is something that only Park sees to.
	ParkDetached(d time.Duration) (served bool)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// exchange is what the daemon that serves knows of one that takes over from it.
type exchange struct {
	mu       sync.Mutex
	released bool // store and socket are the other one's, or nobody's
	ended    bool // there is no way back
	closing  bool
	ends     chan int // the pid of the daemon that has taken over
}

const (
	// retakeFor bounds the way back: the other daemon has to let go, or to die.
	retakeFor   = 10 * time.Second
	retakeEvery = 50 * time.Millisecond
)

// Greet implements control.Lifecycle.
func (d *daemon) Greet(pid int) error {
	d.log.Info("another daemon is about to take over", slog.Int("pid", pid))
	if err := d.admitSuccessor(pid); err != nil {
		return err
	}
	return d.backend.exemptPeer(pid)
}

// Freeze implements control.Lifecycle.
func (d *daemon) Freeze(ctx context.Context) (uint64, error) { return d.rules.Freeze(ctx) }

// Release implements control.Lifecycle.
func (d *daemon) Release() error {
	d.exchange.mu.Lock()
	defer d.exchange.mu.Unlock()
	if d.exchange.closing {
		return errors.New("the daemon is stopping")
	}
	d.exchange.released = true
	return errors.Join(d.store.Release(), d.listener.Close())
}

// End implements control.Lifecycle.
func (d *daemon) End(pid int) {
	d.exchange.mu.Lock()
	defer d.exchange.mu.Unlock()
	if !d.exchange.ended {
		d.exchange.ended = true
		d.exchange.ends <- pid
	}
}

// Resume implements control.Lifecycle.
func (d *daemon) Resume() {
	if d.exchange.isOver() {
		return
	}
	if err := d.backend.exemptPeer(0); err != nil {
		d.log.Error("asking about the other daemon again", slog.Any("error", err))
	}
	err := d.retake()
	if err != nil {
		d.warn("the other daemon has not taken over, and the control interface is gone",
			fmt.Sprintf("store and socket are not to be had again: %v; the rules in force stay; restart the daemon", err))
		return
	}
	d.rules.Thaw()
	d.log.Warn("the other daemon has not taken over: this one stays in charge")
	d.buryOther()
}

// buryOther ends the hooks of the daemon that has not taken over, which refuse everything
// when it has died with survive: closed. It may still be about to.
func (d *daemon) buryOther() {
	if d.cfg.Survive != surviveClosed {
		return
	}
	for end := time.Now().Add(retakeFor); time.Now().Before(end) && !d.exchange.isOver(); time.Sleep(retakeEvery) {
		if n, err := d.backend.bury(); n > 0 || err != nil {
			d.tellBuried(n, err)
			return
		}
	}
}

// retake takes store and socket back, if they were let go of.
func (d *daemon) retake() (err error) {
	for end := time.Now().Add(retakeFor); ; time.Sleep(retakeEvery) {
		if err = d.tryRetake(); err == nil || time.Now().After(end) || d.exchange.isOver() {
			return err
		}
	}
}

func (d *daemon) tryRetake() error {
	d.exchange.mu.Lock()
	defer d.exchange.mu.Unlock()
	if !d.exchange.released || d.exchange.closing {
		return nil
	}
	if err := d.store.Retake(); err != nil {
		return err
	}
	if err := d.openSocket(context.Background()); err != nil {
		return err
	}
	d.exchange.released = false
	return d.serveControl(context.Background())
}

// isOver reports whether there is nothing to go back to.
func (e *exchange) isOver() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended || e.closing
}

// beginClose reports whether another daemon has taken over.
func (e *exchange) beginClose() (handedOver bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closing = true
	return e.ended
}

// handedOver tells the service manager who is in charge now.
func (d *daemon) handedOver(pid int) {
	d.log.Info("another daemon has taken over: ending", slog.Int("pid", pid))
	if _, err := sd.SdNotify(false, fmt.Sprintf("MAINPID=%d", pid)); err != nil {
		d.log.Warn("telling the service manager", slog.Any("error", err))
	}
}

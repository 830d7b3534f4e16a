// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// signals is what the daemon is told from outside.
type signals struct {
	// stop ends with the first SIGTERM or SIGINT.
	stop context.Context
	// hangups has one place: a SIGHUP during a reload is remembered once.
	hangups chan os.Signal
	// upgrades has one place: SIGUSR2.
	upgrades chan os.Signal
}

// catchSignals is called before anything is made that a signal could leave behind. It
// is for good: a second SIGTERM does not cut a stop short.
func catchSignals() signals {
	s := signals{hangups: make(chan os.Signal, 1), upgrades: make(chan os.Signal, 1)}
	s.stop, _ = signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	signal.Notify(s.hangups, unix.SIGHUP)
	signal.Notify(s.upgrades, unix.SIGUSR2)
	return s
}

// reloadFor bounds a reload: beyond it the service manager is told that it is over.
const reloadFor = 20 * time.Second

// serve tells the service manager that the daemon is ready and alive, and handles
// signals, until it is to stop. Nothing in it waits: a reload has a goroutine.
func (d *daemon) serve(s signals) error {
	if s.stop.Err() != nil {
		return nil // the stop came during the start
	}
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		d.log.Warn("telling the service manager", slog.Any("error", err))
	}
	var alive <-chan time.Time
	if every, err := sd.SdWatchdogEnabled(false); err == nil && every > 0 {
		t := time.NewTicker(every / 2)
		defer t.Stop()
		alive = t.C
	}
	var late <-chan time.Time // set while the service manager waits for a reload
	for {
		hangups := s.hangups
		if d.reloaded != nil {
			hangups = nil // one at a time
		}
		select {
		case <-s.stop.Done():
			return nil
		case <-hangups:
			notify(sd.SdNotifyReloading)
			d.reloaded, late = d.startReload(s.stop), time.After(reloadFor)
		case <-d.reloaded:
			if late != nil {
				notify(sd.SdNotifyReady)
			}
			d.reloaded, late = nil, nil
		case <-late:
			d.log.Error("the reload does not end, the rules in force stay; look at the file systems of rules and audit_log", slog.Duration("after", reloadFor))
			notify(sd.SdNotifyReady)
			late = nil
		case <-s.upgrades:
			go d.upgrade()
		case pid := <-d.exchange.ends:
			d.handedOver(pid)
			return nil
		case <-alive:
			petWatchdog(d.engine.Check, d.log, notify)
		case err := <-d.serving:
			return err
		}
	}
}

// startReload reloads in a goroutine, which closes the channel at its end.
func (d *daemon) startReload(stop context.Context) chan struct{} {
	done := make(chan struct{})
	ctx, cancel := context.WithTimeout(stop, reloadFor)
	go func() {
		defer close(done)
		defer cancel()
		d.reload(ctx)
	}()
	return done
}

// notify tells the service manager, if there is one. What it does not take is not
// worth a line: it says so itself, by a timeout.
func notify(state string) { _, _ = sd.SdNotify(false, state) }

// checkFor bounds the watchdog's look at the workers.
const checkFor = time.Second

// petWatchdog says that the daemon is alive if all workers are. Otherwise the service
// manager ends it, and held tasks go on by their failure verdict.
func petWatchdog(check func(context.Context) error, log *slog.Logger, tell func(string)) {
	ctx, cancel := context.WithTimeout(context.Background(), checkFor)
	defer cancel()
	if err := check(ctx); err != nil {
		log.Error("the watchdog is not told that we are alive", slog.Any("error", err))
		return
	}
	tell(sd.SdNotifyWatchdog)
}

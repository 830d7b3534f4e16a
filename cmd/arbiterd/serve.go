// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// serve tells the service manager that the daemon is ready and alive, and handles
// signals, until it is to stop.
func (d *daemon) serve() error {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	defer signal.Stop(signals)
	if _, err := sd.SdNotify(false, sd.SdNotifyReady); err != nil {
		d.log.Warn("telling the service manager", slog.Any("error", err))
	}
	var alive <-chan time.Time
	if every, err := sd.SdWatchdogEnabled(false); err == nil && every > 0 {
		t := time.NewTicker(every / 2)
		defer t.Stop()
		alive = t.C
	}
	for {
		select {
		case s := <-signals:
			if s != unix.SIGHUP {
				return nil
			}
			_, _ = sd.SdNotify(false, sd.SdNotifyReloading)
			d.reload(context.Background())
			_, _ = sd.SdNotify(false, sd.SdNotifyReady)
		case <-alive:
			d.petWatchdog()
		case err := <-d.serving:
			return fmt.Errorf("serving the control interface: %w", err)
		}
	}
}

// checkFor bounds the watchdog's look at the workers.
const checkFor = time.Second

// petWatchdog says that the daemon is alive if all workers are. Otherwise the service
// manager ends it, and held tasks go on by their failure verdict.
func (d *daemon) petWatchdog() {
	ctx, cancel := context.WithTimeout(context.Background(), checkFor)
	defer cancel()
	if err := d.engine.Check(ctx); err != nil {
		d.log.Error("the watchdog is not told that we are alive", slog.Any("error", err))
		return
	}
	_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
}

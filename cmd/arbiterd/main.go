// SPDX-License-Identifier: Apache-2.0

// Command arbiterd is the daemon: it holds opens and execs in the kernel until the
// rules that were pushed to it have decided.
//
// It exits with 0 after SIGTERM or SIGINT, 1 when it could not start or go on, and 2
// for a wrong flag or configuration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/fanotify/guard"
)

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func main() {
	guard.Main() // a guard is this very program
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	cfg, err := loadConfig(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "arbiterd:", err)
		return 2
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: logLevels[cfg.LogLevel]}))
	// The last to be killed when memory runs out; without the privilege, as others.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-999"), 0)
	d, err := start(cfg, log)
	if err != nil {
		fmt.Fprintln(os.Stderr, "arbiterd:", err)
		return 1
	}
	log.Info("ready", slog.String("backend", d.chosen), slog.String("why", d.why), slog.String("socket", cfg.Socket),
		slog.Uint64("epoch", d.engine.Rules().Epoch()))
	err = d.serve()
	_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
	if err := errors.Join(err, d.close()); err != nil {
		log.Error("stopped", slog.Any("error", err))
		return 1
	}
	log.Info("stopped")
	return 0
}

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

// version returns what the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return info.Main.Version + " " + s.Value[:min(12, len(s.Value))]
		}
	}
	return info.Main.Version
}

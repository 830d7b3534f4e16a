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
	"runtime/debug"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/arbiterd/arbiter/arbiter/compiler"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
)

var logLevels = map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

func main() {
	guard.Main() // a guard is this very program
	compiler.Main()
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	signals := catchSignals()
	cfg, err := loadConfig(args, os.Stdout)
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
	d, err := startOrStop(signals.stop, cfg, log)
	if signals.stop.Err() != nil && errors.Is(err, context.Canceled) {
		log.Info("stopped during the start")
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "arbiterd:", err)
		return 1
	}
	log.Info("ready", slog.String("backend", d.chosen), slog.String("why", d.why), slog.String("socket", cfg.Socket),
		slog.Uint64("epoch", d.engine.Rules().Epoch()))
	err = d.serve(signals)
	if !d.exchange.isOver() { // else another daemon goes on
		notify(sd.SdNotifyStopping)
	}
	if err := errors.Join(err, d.stop()); err != nil {
		log.Error("stopped", slog.Any("error", err))
		return 1
	}
	log.Info("stopped")
	return 0
}

// startOrStop is start; after a stop it waits for it no longer than a stop may take.
func startOrStop(stop context.Context, cfg config, log *slog.Logger) (*daemon, error) {
	type outcome struct {
		d   *daemon
		err error
	}
	started := make(chan outcome, 1)
	go func() {
		d, err := start(stop, cfg, log)
		started <- outcome{d, err}
	}()
	select {
	case o := <-started:
		return o.d, o.err
	case <-stop.Done():
	}
	select {
	case o := <-started:
		return o.d, o.err
	case <-time.After(closeFor):
		return nil, fmt.Errorf("stopping during the start: the start does not end within %v; the process ends all the same", closeFor)
	}
}

// version returns what the binary was built from: a tag, or a pseudo-version with the
// commit in it, or "(devel)" without git.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/bench"
)

func daemon(ctx context.Context, args []string, out, errw io.Writer) error {
	f := flag.NewFlagSet("daemon", flag.ContinueOnError)
	var (
		path   = f.String("daemon", "", "the daemon's program, a `path` (default: arbiterd beside this program)")
		config = f.String("config", os.DevNull, "the daemon's configuration `file`; its socket and store are replaced")
		window = f.Duration("window", bench.DaemonWindow, "how long to watch the idle daemon")
		file   = f.String("json", "", "write the report to this `file` as well")
	)
	if err := parse(f, args, errw); err != nil {
		return err
	}
	if *window <= 0 {
		return usageError{errors.New("daemon: give a positive --window")}
	}
	report, err := measureDaemon(ctx, *path, *config, *window)
	if err != nil {
		return err
	}
	if *file != "" {
		err = writeFile(*file, report.WriteJSON)
	}
	return errors.Join(report.WriteTable(out), err)
}

// measureDaemon starts a daemon with a socket and a store of its own, gives it rules and watches it. path is
// its program, "" for the one beside this program.
func measureDaemon(ctx context.Context, path, config string, window time.Duration) (_ *bench.DaemonReport, err error) {
	if path == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("looking for the daemon's program: %w; give --daemon", err)
		}
		path = filepath.Join(filepath.Dir(self), "arbiterd")
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("looking for the daemon's program: %w; run make build, or give --daemon", err)
		}
	}
	// Socket, store, and the scope of the pushed rules: a tree that nobody else
	// uses, so that the daemon has nothing to do.
	dir, err := os.MkdirTemp("", "arbiter-bench-")
	if err != nil {
		return nil, fmt.Errorf("making the daemon's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	socket := filepath.Join(dir, "s")
	return bench.MeasureDaemon(ctx, bench.DaemonOptions{
		Path: path, Args: []string{"--config", config, "--socket", socket, "--state-dir", filepath.Join(dir, "state")}, Window: window,
		Ready: func(ctx context.Context) error { return push(ctx, socket, bench.RuleSet(bench.DaemonRules, dir)) },
	})
}

// push waits for the daemon's socket and puts the rules in force.
func push(ctx context.Context, socket string, rules []byte) (err error) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", socket, err)
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	answer, err := controlv1.NewRulesServiceClient(conn).Push(ctx,
		&controlv1.PushRequest{Name: "bench.yaml", Source: rules, Reason: "measuring the daemon"}, grpc.WaitForReady(true))
	if err != nil {
		return fmt.Errorf("pushing %d rules through %s: %w", bench.DaemonRules, socket, err)
	}
	if answer.RuleCount != bench.DaemonRules {
		return fmt.Errorf("pushing rules: the daemon counts %d, %d were sent", answer.RuleCount, bench.DaemonRules)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/bench"
)

func daemon(ctx context.Context, args []string, out, errw io.Writer) (err error) {
	f := flag.NewFlagSet("daemon", flag.ContinueOnError)
	var (
		path   = f.String("daemon", "", "the daemon's program, a `path` (required)")
		config = f.String("config", "", "the daemon's configuration `file` (required)")
		socket = f.String("socket", "", "the daemon's control socket, as its configuration names it: a `path` (required)")
		window = f.Duration("window", bench.DaemonWindow, "how long to watch the idle daemon")
		file   = f.String("json", "", "write the report to this `file` as well")
	)
	if err := parse(f, args, errw); err != nil {
		return err
	}
	if *path == "" || *config == "" || *socket == "" || *window <= 0 {
		return usageError{errors.New("daemon: give --daemon, --config, --socket, and a positive --window")}
	}
	// The scope of the pushed rules: a tree that nobody else uses, so that the
	// daemon has nothing to do.
	dir, err := os.MkdirTemp("", "arbiter-bench-")
	if err != nil {
		return fmt.Errorf("making the rules' tree: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	report, err := bench.MeasureDaemon(ctx, bench.DaemonOptions{
		Path: *path, Args: []string{"--config", *config}, Window: *window,
		Ready: func(ctx context.Context) error { return push(ctx, *socket, bench.RuleSet(bench.DaemonRules, dir)) },
	})
	if err != nil {
		return err
	}
	if *file != "" {
		err = writeFile(*file, report.WriteJSON)
	}
	return errors.Join(report.WriteTable(out), err)
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

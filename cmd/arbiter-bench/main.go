// SPDX-License-Identifier: Apache-2.0

// Command arbiter-bench measures the arbiter: how long a held system call waits
// for its verdict beside other ways to ask user space, how long a decision by many
// rules takes beside other engines, and what the daemon costs when nothing happens. docs/latency.md says what is timed and how to read it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/arbiterd/arbiter/bench"
)

const usage = `arbiter-bench measures the arbiter.

  arbiter-bench bridge [flags]   time the queue, fanotify, seccomp, ptrace in one run
  arbiter-bench load [flags]     time them while asks come at given rates
  arbiter-bench boot [flags]     time all verdicts of a boot
  arbiter-bench work [flags]     time a build, find, grep and git under a daemon
  arbiter-bench systems [flags]  time execs under other systems, see scripts/systems
  arbiter-bench rules [flags]    time decisions and pushes of up to a million rules
  arbiter-bench daemon [flags]   measure a daemon's memory and idle CPU
  arbiter-bench COMMAND -h       the flags of a command

Exit status: 0 done, whatever the figures say; 1 something went wrong, or the run
was interrupted; 2 wrong usage; 3 nothing could be measured, the rows say why.
`

// The exit statuses, as the usage documents them.
const (
	exitOK       = 0
	exitFailure  = 1
	exitUsage    = 2
	exitNothing  = 3
	scenarioWord = "scenario" // the hidden command of a child process
)

// usageError is a wrong command line.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process around it.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	err := dispatch(ctx, args, in, out, errw)
	var wrong usageError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.As(err, &wrong):
		fmt.Fprintf(errw, "arbiter-bench: %v\nrun arbiter-bench -h for the commands\n", err)
		return exitUsage
	case errors.Is(err, bench.ErrNothingMeasured):
		fmt.Fprintf(errw, "arbiter-bench: %v; see the reasons above\n", err)
		return exitNothing
	}
	fmt.Fprintf(errw, "arbiter-bench: %v\n", err)
	return exitFailure
}

func dispatch(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(errw, usage)
		return usageError{errors.New("no command")}
	}
	switch args[0] {
	case "bridge":
		return bridge(ctx, args[1:], out, errw)
	case "load":
		return load(ctx, args[1:], out, errw)
	case "boot":
		return boot(ctx, args[1:], out, errw)
	case "work":
		return work(ctx, args[1:], out, errw)
	case "systems":
		return systems(ctx, args[1:], out, errw)
	case "rules":
		return rules(ctx, args[1:], out, errw)
	case "daemon":
		return daemon(ctx, args[1:], out, errw)
	case bench.SleeperWord:
		return bench.Sleeper(args[1:], in, out)
	case bench.TracerWord:
		return bench.Tracer(args[1:], in, out)
	case scenarioWord:
		return scenario(args[1:], in, out)
	case "-h", "--help", "help":
		fmt.Fprint(out, usage)
		return nil
	}
	return usageError{fmt.Errorf("unknown command %q", args[0])}
}

// SPDX-License-Identifier: Apache-2.0

// Command arbiter-bench measures the arbiter: how long a held system call waits
// for its verdict beside other ways to ask user space, how long a decision by many
// rules takes beside other engines, and what the daemon costs when nothing happens. It shows, compares and
// verifies the reports of that. docs/latency.md says what is timed and how to read it.
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

	"github.com/arbiterd/arbiter/arbiter/compiler"
	"github.com/arbiterd/arbiter/bench"
)

const usage = `arbiter-bench measures the arbiter.

  arbiter-bench bridge [flags]   time the queue, fanotify, seccomp, ptrace in one run
  arbiter-bench load [flags]     time them while asks come at given rates
  arbiter-bench boot [flags]     time all verdicts of a boot
  arbiter-bench work [flags]     time a build, find, grep and git under a daemon
  arbiter-bench systems [flags]  time execs under other systems, see scripts/systems
  arbiter-bench rungs [flags]    time how a task waits in LSM hooks, see scripts/systems
  arbiter-bench rules [flags]    time decisions and pushes of up to a million rules
  arbiter-bench runtime [flags]  time verdicts while the Go runtime is kept busy
  arbiter-bench daemon [flags]   measure a daemon's memory and idle CPU

With the reports that their --json writes:

  arbiter-bench report FILE.json... --out DIR   a page, plots and tables
  arbiter-bench compare OLD.json NEW.json       what has changed, by a test over the rounds
  arbiter-bench verify FILE.json...             what the documents claim, --run to measure it

  arbiter-bench COMMAND -h       the flags of a command

Exit status: 0 done, whatever the figures say; 1 something went wrong, or the run
was interrupted; 2 wrong usage; 3 nothing could be measured, compared or verified, it
says why; 4 compare: slower than before; 5 verify: a claim does not hold.
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
	compiler.Main() // a push has large rules compiled by this very program
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
	case saidBy(err) != exitOK:
		return saidBy(err)
	}
	fmt.Fprintf(errw, "arbiter-bench: %v\n", err)
	return exitFailure
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/arbiterd/arbiter/bench"
)

// onReports runs a command that reads what the others have written with --json.
func onReports(ctx context.Context, args []string, out, errw io.Writer) error {
	switch args[0] {
	case "report":
		return showReport(args[1:], out, errw)
	case "compare":
		return compareRuns(args[1:], out, errw)
	}
	return verify(ctx, args[1:], out, errw)
}

// The exit statuses of what reports say, as the usage documents them.
const (
	exitSlower  = 4
	exitNotHeld = 5
)

// What the reports say, once it has been printed.
var (
	errNoVerdict = errors.New("no verdict")
	errSlower    = errors.New("slower than before")
	errNotHeld   = errors.New("a claim does not hold")
)

// saidBy returns the exit status of what reports say, 0 for an error of another kind.
func saidBy(err error) int {
	switch {
	case errors.Is(err, errNoVerdict):
		return exitNothing
	case errors.Is(err, errSlower):
		return exitSlower
	case errors.Is(err, errNotHeld):
		return exitNotHeld
	}
	return exitOK
}

// readReport reads a file that --json has written.
func readReport(file string) (*bench.Saved, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening a report: %w", err)
	}
	defer f.Close()
	s, err := bench.ReadReport(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// fileFlags are the flags of a command that takes files. Flags may follow the files.
type fileFlags struct{ *flag.FlagSet }

func newFileFlags(name, takes string) fileFlags {
	f := fileFlags{flag.NewFlagSet(name, flag.ContinueOnError)}
	f.Usage = func() {
		fmt.Fprintf(f.Output(), "Usage: arbiter-bench %s [flags] %s\n", name, takes)
		f.PrintDefaults()
	}
	return f
}

// parse returns the files.
func (f fileFlags) parse(args []string, out io.Writer) ([]string, error) {
	f.SetOutput(out)
	var files []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, usageError{err}
		}
		if f.NArg() == 0 {
			return files, nil
		}
		files, args = append(files, f.Arg(0)), f.Args()[1:]
	}
}

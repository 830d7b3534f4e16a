// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/arbiterd/arbiter/bench"
)

// writeFile writes a file by way of a temporary one, so that an interrupted run
// leaves either none or a whole one.
func writeFile(path string, write func(io.Writer) error) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err = errors.Join(write(f), f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
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

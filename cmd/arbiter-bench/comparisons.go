// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/arbiterd/arbiter/bench"
)

// comparison is a command that runs scenarios in turns, with no flags but those of all.
type comparison struct {
	name    string
	list    func() []bench.Scenario
	run     func(context.Context, bench.Options) (runReport, error)
	samples string // what --samples counts, "" for what is usual
	// flags adds flags of its own and returns what heeds them once they are read; nil for none.
	flags func(*flag.FlagSet) (heed func() error)
}

// runReport is what a comparison reports, nil if it did not run.
type runReport interface {
	WriteTable(io.Writer) error
	WriteJSON(io.Writer) error
	Common() *bench.Report
}

func comparisons() []comparison {
	return []comparison{
		{name: bench.KindBridge, list: bench.Bridge, run: reporting(bench.Run)},
		{name: bench.KindLoad, list: bench.Load, run: reporting(bench.RunLoad),
			samples: fmt.Sprintf("asks per round and scenario, 1 to %d (default %d), those of a second at most", bench.MaxSamples, bench.LoadSamples)},
		{name: bench.KindBoot, list: bench.Boot, run: reporting(bench.RunBoot),
			samples: fmt.Sprintf("events of the boot, 1 to %d (default %d)", bench.MaxSamples, bench.BootEvents)},
		{name: bench.KindWork, list: func() []bench.Scenario { return bench.Work("") }, run: reporting(bench.RunWork),
			samples: "runs per round and program, 1 to 3 (default 3)", flags: workFlags},
		{name: bench.KindRungs, list: bench.Rungs, run: reporting(bench.RunRungs),
			samples: "calls per round and scenario, 1 to 200 (default 200)"},
		{name: bench.KindRuntime, list: bench.Runtimes, run: reporting(bench.RunRuntime)},
	}
}

// reporting hides which report run returns.
func reporting[R any, P interface {
	*R
	runReport
}](run func(context.Context, bench.Options) (P, error)) func(context.Context, bench.Options) (runReport, error) {
	return func(ctx context.Context, o bench.Options) (runReport, error) {
		r, err := run(ctx, o)
		if r == nil {
			return nil, err
		}
		return r, err
	}
}

// workFlags are the flags of work alone. The children see what is heeded, too.
func workFlags(f *flag.FlagSet) (heed func() error) {
	part := f.Int("part", 1, fmt.Sprintf("do an `N`th of the work, 1 to %d: an emulated machine is slow", bench.MaxWorkPart))
	return func() error {
		if *part < 1 || *part > bench.MaxWorkPart {
			return usageError{fmt.Errorf("--part %d: give 1 to %d", *part, bench.MaxWorkPart)}
		}
		return os.Setenv(bench.WorkPartEnv, strconv.Itoa(*part))
	}
}

// command does what its arguments say.
func (c *comparison) command(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags(c.name)
	if c.samples != "" {
		f.Lookup("samples").Usage = c.samples
	}
	heed := func() error { return nil }
	if c.flags != nil {
		heed = c.flags(f.FlagSet)
	}
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) {
		if err := heed(); err != nil {
			return nil, err
		}
		return c.list(), nil
	})
	if err != nil {
		return err
	}
	report, err := c.run(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

// notRun says whose fault it is that there is no report.
func notRun(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return usageError{err}
	}
	return err
}

func saveJSON(file string, r interface{ WriteJSON(io.Writer) error }) error {
	if file == "" {
		return nil
	}
	return writeFile(file, r.WriteJSON)
}

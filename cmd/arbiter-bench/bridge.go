// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/arbiterd/arbiter/bench"
)

func bridge(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("bridge")
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Bridge(), nil })
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, o)
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

// scenario is the child's side: its arguments come from the parent.
func scenario(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return usageError{errors.New("scenario is started by a comparison itself")}
	}
	s, ok := bench.Find(slices.Concat(bench.Bridge(), bench.Load(), bench.Boot(), bench.Work(""), bench.Systems(""), bench.Runtimes(), ruleScenarios()), args[0])
	if !ok {
		return usageError{fmt.Errorf("no scenario %q", args[0])}
	}
	at, err := bench.ParsePlace(args[1])
	if err != nil {
		return usageError{err}
	}
	return bench.Serve(s, at, in, out)
}

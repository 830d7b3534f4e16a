// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"

	"github.com/arbiterd/arbiter/bench"
)

func work(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("work")
	f.Lookup("samples").Usage = "runs per round and program, 1 to 3 (default 3)"
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Work(""), nil })
	if err != nil {
		return err
	}
	report, err := bench.RunWork(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io"

	"github.com/arbiterd/arbiter/bench"
)

func runtimes(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("runtime")
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Runtimes(), nil })
	if err != nil {
		return err
	}
	report, err := bench.RunRuntime(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

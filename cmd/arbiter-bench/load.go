// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/arbiterd/arbiter/bench"
)

func load(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("load")
	f.Lookup("samples").Usage = fmt.Sprintf("asks per round and scenario, 1 to %d (default %d), those of a second at most", bench.MaxSamples, bench.LoadSamples)
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Load(), nil })
	if err != nil {
		return err
	}
	report, err := bench.RunLoad(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

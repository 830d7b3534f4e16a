// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/arbiterd/arbiter/bench"
)

func boot(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("boot")
	f.Lookup("samples").Usage = fmt.Sprintf("events of the boot, 1 to %d (default %d)", bench.MaxSamples, bench.BootEvents)
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Boot(), nil })
	if err != nil {
		return err
	}
	report, err := bench.RunBoot(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

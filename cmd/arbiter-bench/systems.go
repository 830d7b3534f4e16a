// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

func systems(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("systems")
	versions := f.String("versions", "", "a `file` with a line for each system: its version, for the report")
	f.Lookup("samples").Usage = "programs per round and system, 1 to 200 (default 200)"
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Systems(""), nil })
	if err != nil {
		return err
	}
	var lines []string
	if *versions != "" {
		text, err := os.ReadFile(*versions)
		if err != nil {
			return fmt.Errorf("reading the versions: %w", err)
		}
		lines = strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	report, err := bench.RunSystems(ctx, o, lines)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

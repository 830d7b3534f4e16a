// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/asker"
)

func dispatch(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(errw, usage)
		return usageError{errors.New("no command")}
	}
	for _, c := range comparisons() {
		if c.name == args[0] {
			return c.command(ctx, args[1:], out, errw)
		}
	}
	switch args[0] {
	case "systems":
		return systems(ctx, args[1:], out, errw)
	case "rules":
		return rules(ctx, args[1:], out, errw)
	case "daemon":
		return daemon(ctx, args[1:], out, errw)
	case asker.Word:
		return asker.Main(args[1:], in, out)
	case "report", "compare", "verify":
		return onReports(ctx, args, out, errw)
	case bench.SleeperWord:
		return bench.Sleeper(args[1:], in, out)
	case bench.CallerWord:
		return bench.Caller(args[1:], in, out)
	case bench.TracerWord:
		return bench.Tracer(args[1:], in, out)
	case scenarioWord:
		return scenario(args[1:], in, out)
	case "-h", "--help", "help":
		fmt.Fprint(out, usage)
		return nil
	}
	return usageError{fmt.Errorf("unknown command %q", args[0])}
}

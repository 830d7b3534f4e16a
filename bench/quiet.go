// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"fmt"
	"io"
	"time"
)

const (
	// quietLimit bounds the wait for a quiet machine: the load average of a run of two busy CPUs is gone by then.
	quietLimit = 3 * time.Minute
	// quietLook is between two looks at the load, which the kernel itself works out every five seconds.
	quietLook = 5 * time.Second
)

// AwaitQuiet waits, for three minutes at most, until the load of what ran before is gone that would make the next run
// noisy. It says so to progress. The error is that of ctx.
func AwaitQuiet(ctx context.Context, progress io.Writer) error {
	return awaitQuiet(ctx, progress, func() Machine {
		return Machine{CPUs: max(cpuCount(read("/proc/stat")), 1), LoadBefore: loadAverage(read("/proc/loadavg"))}
	}, quietLook)
}

func awaitQuiet(ctx context.Context, progress io.Writer, look func() Machine, every time.Duration) error {
	for n := range int(quietLimit / quietLook) {
		if len(noisy(look())) == 0 {
			return nil
		}
		if n == 0 {
			fmt.Fprintf(progress, "waiting for a quiet machine, %v at most\n", quietLimit)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for a quiet machine: %w", context.Cause(ctx))
		case <-time.After(every):
		}
	}
	return nil
}

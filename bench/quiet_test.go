// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"
)

func TestAwaitQuiet(t *testing.T) {
	const most = int(quietLimit / quietLook)
	f := func(name string, looks, want int) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			n := 0
			look := func() Machine {
				n++
				if n >= looks {
					return Machine{CPUs: 2, LoadBefore: ptr(1.0)}
				}
				return Machine{CPUs: 2, LoadBefore: ptr(1.01)}
			}
			var said bytes.Buffer
			if err := awaitQuiet(t.Context(), &said, look, time.Nanosecond); err != nil || n != want || (said.Len() > 0) != (want > 1) {
				t.Errorf("got %v, %d looks, said %q, want %d looks and a word if it waits", err, n, said.String(), want)
			}
		})
	}
	f("quiet already", 1, 1)
	f("after a while", 7, 7)
	f("never", most+50, most)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	busy := func() Machine { return Machine{CPUs: 2, LoadBefore: ptr(9.0)} }
	if err := awaitQuiet(ctx, new(bytes.Buffer), busy, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the wait interrupted", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"slices"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Asks at given times: none is early, each is counted, and one that had to wait for the
// ask before it says so.
func TestNativeDue(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{1}, Wait: 5 * time.Millisecond})
	serve(t, n, func(*abi.Request) abi.Verdict { return abi.Verdict{} })
	const asks = 200
	due, took := make([]int64, asks), make([]uint64, asks)
	begin := monotonic() + int64(time.Millisecond)
	for i := range due {
		due[i] = begin + int64(i/2)*int64(100*time.Microsecond) // two at a time, ten milliseconds
	}
	if err := n.RunDue(0, due, took); err != nil {
		t.Fatal(err)
	}
	if now := monotonic(); now < due[asks-1] {
		t.Errorf("all was over %v before the last ask was due", time.Duration(due[asks-1]-now))
	}
	c, err := n.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if c.Asked != asks {
		t.Errorf("the kernel counted %d asks, want %d", c.Asked, asks)
	}
	for i := 1; i < asks; i += 2 {
		if took[i] <= took[i-1] {
			t.Errorf("asks %d and %d were due at once and took %d and %d ns: the second waited for the first", i-1, i, took[i-1], took[i])
		}
	}
	slices.Sort(took)
	t.Attr("seen", "p50 "+time.Duration(took[asks/2]).String()+", max "+time.Duration(took[asks-1]).String())

	if err := n.RunDue(0, due, took[:1]); err == nil {
		t.Error("got no error, want one about too few places")
	}
}

// Without a worker each ask takes its bound, and the lateness adds up: an open loop.
func TestNativeDueLate(t *testing.T) {
	const wait, asks = 2 * time.Millisecond, 5
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: wait})
	due, took := make([]int64, asks), make([]uint64, asks)
	for i := range due {
		due[i] = monotonic()
	}
	if err := n.RunDue(-1, due, took); err != nil {
		t.Fatal(err)
	}
	for i, ns := range took {
		if want := wait * time.Duration(i+1); time.Duration(ns) < want {
			t.Errorf("ask %d was given up after %v, want at least %v", i, time.Duration(ns), want)
		}
	}
}

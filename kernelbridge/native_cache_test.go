// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// The verdict cache of the kernel, on the real CPU: what was kept is found, until the
// rules change, and how long that takes.
func TestNativeCache(t *testing.T) {
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if missing := capabilities(spec).sleep; missing != "" {
		t.Skipf("verdicts cannot be kept here: %s", missing) // the same kernels: since 6.11 and 6.12
	}
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: MaxWait})
	exe, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// A file that has just changed is not kept: this binary may be seconds old.
	await(t, "settled executable", func() bool { return time.Since(exe.ModTime()) > 4*time.Second })
	const facts = abi.FieldPath | abi.FieldAccess | abi.FieldUID
	look := func(want bool, what string) {
		t.Helper()
		for range 2 { // the first look may keep what the second finds
			hit, err := n.RunCached(-1, make([]uint64, 1))
			if err != nil {
				t.Fatal(err)
			}
			if hit == want {
				return
			}
		}
		t.Errorf("%s: want a hit: %t", what, want)
	}
	look(false, "nothing may be kept")
	n.Keep(facts)
	if hit, err := n.RunCached(-1, make([]uint64, 1)); hit || err != nil {
		t.Errorf("the first look at new rules: %t, %v, want a miss", hit, err)
	}
	look(true, "kept")
	n.Keep(facts) // the same again is another epoch
	if hit, err := n.RunCached(-1, make([]uint64, 1)); hit || err != nil {
		t.Errorf("the first look after a push: %t, %v, want a miss", hit, err)
	}
	look(true, "kept again")

	took := make([]uint64, 100_000)
	if _, err := n.RunCached(-1, took); err != nil {
		t.Fatal(err)
	}
	slices.Sort(took)
	t.Attr("seen", "a hit of the verdict cache in the kernel: p50 "+time.Duration(took[len(took)/2]).String()+
		", p99 "+time.Duration(took[len(took)*99/100]).String())
}

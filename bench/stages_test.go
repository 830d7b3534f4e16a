// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge"
)

func TestStagesOf(t *testing.T) {
	f := func(name string, a kernelbridge.Stages, w stamp, want [len(stageNames)]uint32) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			got := stagesOf(a, w)
			if got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			sum := int64(0)
			for _, ns := range got {
				sum += int64(ns)
			}
			if sum != a.Settled-a.Begun {
				t.Errorf("got %d ns together, want the whole, %d", sum, a.Settled-a.Begun)
			}
		})
	}
	asked := kernelbridge.Stages{Begun: 100, Claimed: 120, Filled: 160, Posted: 170, Settled: 400}
	f("one after another", asked, stamp{200, 290, 350}, [...]uint32{20, 40, 10, 30, 90, 60, 50})
	f("taken before the requester has looked at the clock", asked, stamp{165, 290, 350}, [...]uint32{20, 40, 10, 0, 120, 60, 50})
	f("read before the worker has looked at the clock", asked, stamp{200, 290, 410}, [...]uint32{20, 40, 10, 30, 90, 110, 0})
}

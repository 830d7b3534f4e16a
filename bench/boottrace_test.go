// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// The trace has the shape that is known of a boot, and the mix that bootMix says.
func TestBootTrace(t *testing.T) {
	trace := newBootTrace(BootEvents)
	if len(trace.order) != BootEvents || len(trace.unique) != BootUnique {
		t.Fatalf("got %d events, %d different ones, want %d and %d", len(trace.order), len(trace.unique), BootEvents, BootUnique)
	}
	seen := map[bootAsk]int{}
	events := map[abi.Event]int{}
	for _, i := range trace.order {
		seen[trace.unique[i]]++
		events[trace.unique[i].event]++
	}
	if len(seen) != BootUnique {
		t.Errorf("got %d different events in it, want %d: no two may be equal, and each has to come", len(seen), BootUnique)
	}
	want, shares := map[abi.Event]int{}, 0
	for _, m := range bootMix {
		want[m.event] += m.share
		shares += m.share
	}
	if shares != 1000 {
		t.Errorf("the shares of the mix are %d together, want 1000", shares)
	}
	for e, share := range want {
		// An event that comes often shifts its kind's share.
		if got := float64(events[e]) / BootEvents * 1000; math.Abs(got-float64(share)) > 40 {
			t.Errorf("%s: got %.0f of a thousand, want about %d", e, got, share)
		}
	}
	counts := make([]int, 0, len(seen))
	for _, n := range seen {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	if top, median := counts[len(counts)-1], counts[len(counts)/2]; top < BootEvents/100 || top > BootEvents/10 || median > 3 {
		t.Errorf("the most frequent event comes %d times, the middle one %d times, want a few that come often and many that do not", top, median)
	}
	again := newBootTrace(BootEvents)
	if diff := cmp.Diff(trace.order[:100], again.order[:100]); diff != "" {
		t.Errorf("the same boot comes in another order:\n%s", diff)
	}
}

func TestBootTraceSmall(t *testing.T) {
	for n, unique := range map[int]int{1: 1, 119: 24, 2000: 403} {
		if trace := newBootTrace(n); len(trace.order) != n || len(trace.unique) != unique {
			t.Errorf("%d events: got %d, %d different ones, want %d", n, len(trace.order), len(trace.unique), unique)
		}
	}
}

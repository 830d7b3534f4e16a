// SPDX-License-Identifier: Apache-2.0

package rules

import "testing"

// What covers says is what is so, over all tests of three bits and all numbers.
func TestBitTestCovers(t *testing.T) {
	const most = 8
	for i := range most * most * most * most {
		a, b := bitTest{uint64(i % most), uint64(i / most % most)}, bitTest{uint64(i / most / most % most), uint64(i / most / most / most)}
		x, y := a.normal(), b.normal()
		covers := true
		for v := range uint64(most) {
			if a.holds(v) != x.holds(v) {
				t.Fatalf("%+v of %d: %v, as %+v: %v", a, v, a.holds(v), x, x.holds(v))
			}
			covers = covers && (!y.holds(v) || x.holds(v))
		}
		if got := x.covers(y); got != covers {
			t.Fatalf("%+v covers %+v: got %v, want %v", x, y, got, covers)
		}
		if x.given() && !x.holds(x.some()) {
			t.Fatalf("%+v does not hold for %d", x, x.some())
		}
	}
}

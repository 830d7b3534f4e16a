// SPDX-License-Identifier: Apache-2.0

package rules

import "testing"

// However many keys a rule can be filed under, few share a place, so that counts are of use to
// choose by.
func TestCountsAreNearExact(t *testing.T) {
	const rules, each = 1000, 10
	demands := make([][]demand, rules)
	for i := range demands {
		part := make([]key, each)
		for j := range part {
			part[j] = key{fact: factPath, kind: keyWhole, a: uint64(i), b: uint64(j)}
		}
		part[0] = key{fact: factPath, kind: keyWhole, a: rules} // all have it
		demands[i] = []demand{{fact: factPath, parts: [][]key{part}}}
	}
	var c counts
	c.count(demands)
	if got := c.of(demands[0][0].parts[0][0]); got < rules || got > rules+each {
		t.Errorf("a key that all %d rules have is counted %d times", rules, got)
	}
	sum := 0
	for _, ds := range demands {
		for _, k := range ds[0].parts[0][1:] {
			got := c.of(k)
			if got < 1 {
				t.Fatalf("a key that one rule has is counted %d times", got)
			}
			sum += min(got, each)
		}
	}
	if most := 2 * rules * (each - 1); sum > most {
		t.Errorf("%d keys of one rule each are counted %d times, want at most %d", rules*(each-1), sum, most)
	}
}

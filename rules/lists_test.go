// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"testing"
)

// What is released is used again, and lists from before keep what they have, also if more was made
// since than a piece has room for.
func TestListsRelease(t *testing.T) {
	var l lists[int]
	before := l.copy(1, 2, 3)
	for range 3 {
		mark := l.mark()
		first := l.copy(4)
		large := l.room(3 * listsPiece)
		l.copy(append(large, 5)...)
		l.release(mark)
		if again := l.copy(6); &again[0] != &first[0] {
			t.Error("what was released is not used again")
		}
		l.release(mark)
	}
	if after := append(before, 7); !slices.Equal(before, []int{1, 2, 3}) || &after[0] == &before[0] {
		t.Errorf("the list from before is %v, and grows in place: %t", before, &after[0] == &before[0])
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"
)

// Texts are told apart by their bytes: anybody can make two with one short hash.
func TestPackedTellsTextsApart(t *testing.T) {
	for _, n := range []int{10, packFrom} {
		text, other := strings.Repeat("a", n), strings.Repeat("b", n)
		p, again, forged := pack(text), pack(text), pack(other)
		forged.sum = p.sum
		if !p.is([]byte(text)) || !p.same(&again) || string(p.bytes()) != text {
			t.Errorf("%d bytes: a text is not the same as itself", n)
		}
		if p.same(&forged) || forged.is([]byte(text)) {
			t.Errorf("%d bytes: another text with the same hash passes for it", n)
		}
	}
}

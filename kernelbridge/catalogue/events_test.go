// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Every event has a complete entry, in its own place.
func TestEvents(t *testing.T) {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		ev := Of(e)
		if ev.Event != e || ev.Doc == "" || ev.Class < Free || ev.Class > Void {
			t.Errorf("event %s: entry %+v", e, ev)
		}
		if len(ev.Args) > abi.Args {
			t.Errorf("event %s has %d arguments, want at most %d", e, len(ev.Args), abi.Args)
		}
		seen := map[string]bool{}
		for i, a := range ev.Args {
			if a.Name == "" || a.Doc == "" || seen[a.Name] || ev.Arg(a.Name) != i {
				t.Errorf("event %s: argument %d is %+v", e, i, a)
			}
			seen[a.Name] = true
		}
	}
	if got := Of(abi.EventExec).Arg("role"); got != abi.ArgRole {
		t.Errorf("the role of an exec is number %d, the ABI says %d", got, abi.ArgRole)
	}
	for _, e := range []abi.Event{abi.EventNone, abi.EventCount, ^abi.Event(0)} {
		if Of(e) != nil {
			t.Errorf("the catalogue has an entry for %d", e)
		}
	}
}

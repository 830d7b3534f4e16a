// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// The verifier gives up after a million instructions that it has looked at, and the daemon
// starts when it is through with all programs: each stays small, on any kernel.
func TestLSMVerifiedInstructions(t *testing.T) {
	const most = 50_000
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	b.Unavailable(1<<abi.EventRename | 1<<abi.EventConnect | 1<<abi.EventSignal | 1<<abi.EventMount) // one of each room
	var sum uint32
	for _, h := range b.hooks.hooks {
		if h.prog == nil {
			continue
		}
		info, err := h.prog.Info()
		if err != nil {
			t.Fatal(err)
		}
		n, ok := info.VerifiedInstructions()
		if !ok {
			t.Skip("this kernel does not tell how many instructions were verified")
		}
		sum += n
		t.Logf("%s: %d instructions", h.name, n)
		if n > most {
			t.Errorf("the program on %s took %d instructions to verify, want at most %d", h.name, n, most)
		}
	}
	if sum == 0 {
		t.Error("no program is loaded")
	}
}

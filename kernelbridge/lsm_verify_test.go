// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf/asm"

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

// A program that the verifier refuses takes its event away, with the reason, and no other.
// That a hook is there and its program refused is no hook that is not there.
func TestLSMRefusedProgram(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	refused := []string{"arb_path_mkdir", "arb_inode_set_acl"}
	for _, name := range refused {
		p := b.hooks.object.programs[name]
		if p == nil {
			t.Fatalf("there is no program %s", name)
		}
		p.Instructions = asm.Instructions{asm.Return()} // of nothing: R0 is not set
	}
	cannot := b.Unavailable(1<<abi.EventMkdir | 1<<abi.EventRmdir | 1<<abi.EventSetXattr)
	if err := cannot[abi.EventMkdir]; err == nil || !strings.Contains(err.Error(), "the verifier refuses it") || !strings.Contains(err.Error(), "path_mkdir") {
		t.Errorf("mkdir, whose program is refused: %v", err)
	}
	if err := cannot[abi.EventRmdir]; err != nil {
		t.Errorf("rmdir beside it: %v", err)
	}
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if err := cannot[abi.EventSetXattr]; (err != nil) != hasFunc(spec, "bpf_lsm_inode_set_acl") {
		t.Errorf("setxattr, whose hook for ACLs is there: %t, and refused: %v", hasFunc(spec, "bpf_lsm_inode_set_acl"), err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// memberOffset returns where a member of a kernel structure is, in bytes.
func memberOffset(t *testing.T, typ, member string) int16 {
	t.Helper()
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	var s *btf.Struct
	if err := spec.TypeByName(typ, &s); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.Members {
		if m.Name == member && m.Offset.Bytes() <= math.MaxInt16 {
			return int16(m.Offset.Bytes())
		}
	}
	t.Fatalf("struct %s has no member %s", typ, member)
	return 0
}

// refuseReading has an LSM refuse one user the files of a file system, as SELinux would
// a domain.
func refuseReading(t *testing.T, dev, uid uint32) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: "inode_permission", License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord), // the inode
			asm.FnGetCurrentUidGid.Call(),
			asm.JNE.Imm32(asm.R0, int32(uid), "allow"),
			asm.LoadMem(asm.R1, asm.R6, memberOffset(t, "inode", "i_sb"), asm.DWord),
			asm.LoadMem(asm.R1, asm.R1, memberOffset(t, "super_block", "s_dev"), asm.Word),
			asm.LoadImm(asm.R2, int64(dev), asm.DWord),
			asm.JNE.Reg(asm.R1, asm.R2, "allow"),
			asm.Mov.Imm(asm.R0, -int32(unix.EACCES)),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 0).WithSymbol("allow"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatalf("an LSM program that refuses: %v", err)
	}
	defer p.Close()
	l, err := link.AttachLSM(link.LSMOptions{Program: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// Whom another LSM does not let into the gate polls instead: the worker's verdict counts,
// and the failure verdict comes in time when there is none. The backend says that it
// happened.
func TestLSMGateRefused(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{abi.EventOpen: {Errno: uint16(unix.ENOTUNIQ)}})
	p.Sleep = time.Minute
	b, tree := openSleeper(t, p)
	for _, dir := range []string{filepath.Dir(tree), tree} { // for another user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	refuseReading(t, atomic.LoadUint32(&b.queue.Header().GateDev), 1000)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	c := startChild(t)
	if got := c.do("read", tree+"/file"); got != "EXDEV" || b.GateRefused() != 0 {
		t.Fatalf("an open by who is let in: %s, %d refused, want EXDEV and none", got, b.GateRefused())
	}
	if got := c.do("setuid", "1000"); got != "ok" {
		t.Fatal(got)
	}
	for i := 0; b.GateRefused() == 0; i++ { // until one had to wait
		if got := c.do("read", tree+"/file"); got != "EXDEV" || i == 1000 {
			t.Fatalf("open %d by who is not, %d refused: %s, want EXDEV", i, b.GateRefused(), got)
		}
	}
	refused := b.GateRefused()
	t.Attr("seen", "an LSM refused the gate, the worker's verdict came all the same")
	atomic.StoreUint64(&b.queue.Header().WaitNS, uint64(MaxWait)) // openLSM has made it longer
	w.mu.Lock()
	w.slow = map[string]time.Duration{"open " + tree + "/file": 2 * time.Second}
	w.mu.Unlock()
	start := time.Now()
	if got := c.do("read", tree+"/file"); got != "ENOTUNIQ" || time.Since(start) >= 2*time.Second {
		t.Errorf("an open that takes the worker 2 s: %s after %v, want the failure verdict within %v", got, time.Since(start), MaxWait)
	}
	if b.GateRefused() <= refused {
		t.Errorf("%d refused after a wait that had to sleep, %d before it", b.GateRefused(), refused)
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Failed[abi.ReasonDeadline] != 1 || counts.Failed[abi.ReasonGateDead] != 0 {
		t.Errorf("failures %v, want one deadline and no dead gate", counts.Failed)
	}
}

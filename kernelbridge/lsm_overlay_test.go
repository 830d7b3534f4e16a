// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// An open on overlayfs is one question, by the name that the task used, also when both
// the merged tree and the tree below it are in scope.
func TestLSMOverlay(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil { // a file system that can be below
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	lower, upper, work, merged := dir+"/lower", dir+"/upper", dir+"/work", dir+"/merged"
	mustMkdir(t, lower, upper, work, merged)
	mustWrite(t, lower+"/file", []byte("x"), 0o644)
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		t.Fatalf("mounting an overlayfs (vmrun -module overlay): %v", err)
	}
	t.Cleanup(func() { unix.Unmount(merged, unix.MNT_DETACH) })

	w := startWorker(t, b, map[string]unix.Errno{"open " + merged + "/file": unix.EXDEV})
	c := startChild(t)
	if err := b.Configure(Scope{Trees: []string{dir}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	w.take()
	if got := c.do("read", merged+"/file"); got != "EXDEV" {
		t.Errorf("a refused open on overlayfs: %s, want EXDEV; asked %q", got, w.take())
	}
	w.mu.Lock()
	clear(w.deny)
	w.mu.Unlock()
	w.take()
	if got := c.do("read", merged+"/file"); got != "ok" {
		t.Errorf("an allowed open on overlayfs: %s, want ok", got)
	}
	if asked := w.take(); len(asked) != 1 {
		t.Errorf("asked %q, want once", asked)
	}
}

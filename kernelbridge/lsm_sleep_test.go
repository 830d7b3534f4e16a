// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// openSleeper opens a backend whose tasks give their CPU back while they wait, or skips
// on a kernel where they cannot.
func openSleeper(t *testing.T, p Policy) (b *LSM, tree string) {
	t.Helper()
	b = openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	if err := b.NoGate(); err != nil {
		t.Skipf("tasks cannot sleep here: %v", err)
	}
	tree = t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	return b, tree
}

func cpuTime(t *testing.T, c *child) time.Duration {
	t.Helper()
	us, err := strconv.Atoi(c.do("cpu", "-"))
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(us) * time.Microsecond
}

// A task whose verdict takes long sleeps: it uses no CPU, and gets the verdict.
func TestLSMSleeps(t *testing.T) {
	p := policyAll([abi.EventCount]abi.Verdict{})
	p.Sleep = 20 * time.Second
	b, tree := openSleeper(t, p)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EXDEV})
	const hold = 2500 * time.Millisecond // longer than one sleep at the gate
	w.slow = map[string]time.Duration{"open " + tree + "/file": hold}
	c := startChild(t)
	c.do("cpu", "-")
	before, start := cpuTime(t, c), time.Now()
	got := c.do("read", tree+"/file")
	took, used := time.Since(start), cpuTime(t, c)-before
	t.Attr("seen", "an open held for "+took.Round(time.Millisecond).String()+" used "+used.String()+" of CPU")
	if got != "EXDEV" || took < hold {
		t.Errorf("a held open: %s after %v, want EXDEV after %v", got, took, hold)
	}
	if used > hold/5 {
		t.Errorf("the held task used %v of CPU in %v, want next to none", used, took)
	}
	if n := (&sleepers{b.queue.Ring}).Sleeps(); n < 2 {
		t.Errorf("%d sleeps, want one a second", n)
	}
	if claims, slept := b.Claims(), b.Sources()[0].Slept(); claims != 1 || slept != 1 {
		t.Errorf("%d slots claimed, %d slept, want one of each", claims, slept)
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Asked != 1 || counts.Answered != 1 {
		t.Errorf("counts %+v, want one asked and answered", counts)
	}
}

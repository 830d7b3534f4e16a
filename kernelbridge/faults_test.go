// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestNativeRingFull: with every slot in use a request gets its failure verdict at
// once, and is answered again when one is free.
func TestNativeRingFull(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{1}, Wait: time.Second})
	var onFail [abi.EventCount]abi.Verdict
	onFail[abi.EventOpen].Errno = uint16(unix.EIO)
	n.Configure([abi.EventCount]abi.Fields{}, onFail)
	serve(t, n, func(*abi.Request) abi.Verdict { return abi.Verdict{Errno: uint16(unix.EACCES)} })
	put := func(i int, s abi.State) {
		word := abi.Word(atomic.LoadUint64(&n.queue.Slot(i).Word))
		atomic.StoreUint64(&n.queue.Slot(i).Word, uint64(word.With(s)))
	}
	for i := range abi.Slots {
		put(i, abi.Filling)
	}
	took := make([]uint64, 1)
	v, err := n.Run(0, took)
	if err != nil {
		t.Fatal(err)
	}
	if v.Errno != uint16(unix.EIO) || time.Duration(took[0]) > time.Second/2 {
		t.Errorf("with a full ring: errno %d after %v, want EIO at once", v.Errno, time.Duration(took[0]))
	}
	put(abi.Slots-1, abi.Free) // the one that is looked at last
	if v, err = n.Run(0, took); err != nil || v.Errno != uint16(unix.EACCES) {
		t.Errorf("with one free slot: errno %d, %v; want EACCES", v.Errno, err)
	}
	for i := range abi.Slots {
		put(i, abi.Free)
	}
	c, err := n.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if c.Asked != 2 || c.Answered != 1 || c.Failed[abi.ReasonRingFull] != 1 {
		t.Errorf("counts %+v, want two asked, one answered, one ring_full", c)
	}
}

// TestLSMSignal: a signal that is handled ends no wait and turns no deny into an allow.
func TestLSMSignal(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	mustWrite(t, tree+"/file", []byte("x"), 0o644)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	c := startChild(t)
	got := make(chan string, 1)
	go func() { got <- c.do("read", tree+"/file") }()
	if !waitFor(func() bool { n, err := b.Counts(abi.EventOpen); return err == nil && n.Asked == 1 }) {
		t.Fatal("the subject does not ask")
	}
	// SIGURG has a handler in every Go program.
	pid := c.cmd.Process.Pid
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		tid, err := strconv.Atoi(thread.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Tgkill(pid, tid, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/file": unix.EACCES})
	select {
	case outcome := <-got:
		if outcome != "EACCES" {
			t.Errorf("held while signals came: %s, want EACCES", outcome)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("still held")
	}
	if asked := w.take(); len(asked) != 1 {
		t.Errorf("asked %q, want once", asked)
	}
	checkCounts(t, b)
}

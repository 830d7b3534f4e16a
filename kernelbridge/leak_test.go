// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// openFiles returns the process's descriptors, each with what it is, and what of
// BPF maps is in its memory: a mapping keeps the map alive as a descriptor does.
func openFiles(t *testing.T) []string {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatalf("counting descriptors: %v", err)
	}
	var out []string
	for _, e := range entries {
		// The descriptor of the directory itself is gone by now.
		if to, err := os.Readlink(dir + "/" + e.Name()); err == nil {
			out = append(out, fmt.Sprintf("%s -> %s", e.Name(), to))
		}
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatalf("reading the mappings: %v", err)
	}
	for line := range strings.Lines(string(maps)) {
		if strings.Contains(line, "bpf-map") {
			out = append(out, "mapping "+strings.TrimSpace(line))
		}
	}
	return out
}

// settledFiles returns what is open when a queue was and nothing is left of it: the
// first time the runtime and cilium/ebpf open what they keep. It skips the test
// where no queue can be opened.
func settledFiles(t *testing.T) (open []string) {
	t.Helper()
	// Not openNative, whose cleanup holds on to the queue.
	first, err := OpenNative(NativeOptions{CPUs: []int{-1}, Wait: time.Millisecond})
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs CAP_BPF and CAP_PERFMON: %v", err)
	}
	if err != nil {
		t.Fatalf("opening the native queue: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatalf("closing the native queue: %v", err)
	}
	mapped := func(s string) bool { return strings.HasPrefix(s, "mapping ") }
	if !waitFor(func() bool {
		runtime.GC()
		open = openFiles(t)
		return !slices.ContainsFunc(open, mapped)
	}) {
		t.Fatalf("mappings of closed queues stay: %q", open)
	}
	return open
}

// checkFiles requires that the open files are those of before. cilium/ebpf maps the
// data section of an object too, and leaves that mapping to the garbage collector.
func checkFiles(t *testing.T, what string, before []string) {
	t.Helper()
	var after []string
	waitFor(func() bool {
		runtime.GC()
		after = openFiles(t)
		return len(after) <= len(before)
	})
	for _, f := range after {
		if !slices.Contains(before, f) {
			t.Errorf("%s leaves behind %s", what, f)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%s: %d descriptors and mappings, %d before", what, len(after), len(before))
	}
}

func TestNativeLeaksNoDescriptors(t *testing.T) {
	before := settledFiles(t)
	for range 2 {
		n, err := OpenNative(NativeOptions{CPUs: []int{-1, -1}, Wait: time.Millisecond})
		if err != nil {
			t.Fatalf("opening the native queue: %v", err)
		}
		if open := openFiles(t); len(open) <= len(before) {
			t.Errorf("an open queue has %d descriptors and mappings, %d without: the count sees nothing", len(open), len(before))
		}
		if _, err := n.Run(-1, make([]uint64, 1)); err != nil {
			t.Errorf("asking: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("closing the native queue: %v", err)
		}
		if err := n.Close(); err != nil {
			t.Errorf("closing it once more: %v", err)
		}
		checkFiles(t, "a closed queue", before)
	}
}

// A queue that cannot be opened gives back what it had already.
func TestNativeOpenErrors(t *testing.T) {
	before := settledFiles(t)
	for _, tc := range []struct {
		name string
		cpus []int
	}{
		{"no worker", nil},
		{"more workers than lines in the header", make([]int, abi.MaxWorkers+1)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := OpenNative(NativeOptions{CPUs: tc.cpus, Wait: time.Millisecond})
			if err == nil {
				n.Close()
				t.Fatalf("opened for %d workers, want an error", len(tc.cpus))
			}
			checkFiles(t, "a queue that was not opened", before)
		})
	}
}

// TestNativeNoCapabilities: a kernel that refuses maps and programs is told so, with the step
// that helps, and nothing stays open.
func TestNativeNoCapabilities(t *testing.T) {
	before := settledFiles(t) // and what cilium/ebpf remembers of the kernel is known
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var all, none [2]unix.CapUserData
	if err := unix.Capget(&header, &all[0]); err != nil {
		t.Fatal(err)
	}
	for i := range all {
		none[i] = all[i]
		none[i].Effective = 0 // what is permitted can be had again
	}
	if err := unix.Capset(&header, &none[0]); err != nil {
		t.Fatal(err)
	}
	n, err := OpenNative(NativeOptions{CPUs: []int{-1}, Wait: time.Millisecond})
	if err := unix.Capset(&header, &all[0]); err != nil {
		t.Fatalf("taking the capabilities back: %v", err)
	}
	if err == nil {
		_ = n.Close()
	}
	var unsupported *UnsupportedError
	if !errors.As(err, &unsupported) || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_BPF") {
		t.Errorf("opening without capabilities: %v, want an UnsupportedError that names CAP_BPF", err)
	}
	checkFiles(t, "a refused queue", before)
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// drowsy asks nothing, and tells by which thread it is served.
type drowsy struct{ tid atomic.Int32 }

func (d *drowsy) Next(*abi.Request) bool               { return false }
func (d *drowsy) Reply(*abi.Request, abi.Verdict) bool { return true }
func (d *drowsy) Hold(*abi.Request) bool               { return true }
func (d *drowsy) Wake()                                {}
func (d *drowsy) Park(time.Duration) {
	d.tid.Store(int32(unix.Gettid()))
	unix.Poll(nil, 5) // as long as a real source may park
}

// What the kernel does to a worker whose CPU goes offline: it may run anywhere. The
// worker goes back, and says so when it cannot.
func TestWorkerGoesBackToItsCPU(t *testing.T) {
	var all, own unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	cpu := 0
	for !all.IsSet(cpu) {
		cpu++
	}
	own.Set(cpu)
	if all == own {
		t.Skip("runs on more than one CPU only: there is no other to be moved to")
	}
	src := &drowsy{}
	a, err := New(Config{Rules: rules.Nothing(), Workers: []Worker{{Source: src, CPU: cpu}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !ok(); unix.Poll(nil, 1) {
			if time.Now().After(end) {
				t.Fatalf("not within 30 s: %s", what)
			}
		}
	}
	until("the worker parks", func() bool { return src.tid.Load() != 0 })
	tid := int(src.tid.Load())
	if err := unix.SchedSetaffinity(tid, &all); err != nil {
		t.Fatal(err)
	}
	until("it is back on its CPU", func() bool {
		var now unix.CPUSet
		return unix.SchedGetaffinity(tid, &now) == nil && now == own
	})
	if a.Stats().Workers[0].Displaced {
		t.Error("a worker on its CPU is said to be displaced")
	}

	w := &worker{cpu: 1023} // a CPU that there is not
	if err := w.pin(); err == nil || !w.displaced.Load() {
		t.Errorf("pinning to CPU 1023: %v, displaced %t, want an error and true", err, w.displaced.Load())
	}
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"os"
	"runtime"
	"strconv"
	"sync"
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

// lastCPU returns the last CPU that this process may use, one of several. All threads get all of
// them back when the test has ended.
func lastCPU(t *testing.T) (cpu int) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	if all.Count() < 2 {
		t.Skip("runs on more than one CPU only")
	}
	for i := range 1024 {
		if all.IsSet(i) {
			cpu = i
		}
	}
	t.Cleanup(func() {
		back := &Arbiter{cfg: Config{Apart: true}, others: all}
		back.keepApart()
	})
	return cpu
}

// All threads but the worker's keep off its CPU, those that begin later as well.
func TestOthersKeepApart(t *testing.T) {
	cpu := lastCPU(t)
	a, _ := start(t, 1, func(c *Config) { c.Apart, c.Workers[0].CPU = true, cpu })
	defer a.Close() // before the threads get their CPUs back
	var wg sync.WaitGroup
	for range 8 { // in a thread of its own each
		wg.Go(func() {
			runtime.LockOSThread()
			unix.Poll(nil, 5)
		})
	}
	wg.Wait()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	workers, others := 0, 0
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		var set unix.CPUSet
		switch {
		case unix.SchedGetaffinity(tid, &set) != nil: // it has ended
		case tid == a.workers[0].tid:
			if workers++; !set.IsSet(cpu) || set.Count() != 1 {
				t.Errorf("the worker has %d CPUs, want its own", set.Count())
			}
		default:
			if others++; set.IsSet(cpu) || set.Count() == 0 {
				t.Errorf("thread %d may run on the worker's CPU", tid)
			}
		}
	}
	if workers != 1 || others < 3 {
		t.Errorf("%d workers and %d others were looked at", workers, others)
	}
}

// What the kernel does to a worker whose CPU goes offline: it may run anywhere. The
// worker goes back, and says so when it cannot.
func TestWorkerGoesBackToItsCPU(t *testing.T) {
	cpu := lastCPU(t)
	var all, own unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	own.Set(cpu)
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

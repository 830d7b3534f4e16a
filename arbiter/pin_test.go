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

// lastCPU returns the last CPU that this process may use, one of several.
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
	return cpu
}

// threads returns those of this process.
func threads(t *testing.T) (tids []int) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		tids = append(tids, tid)
	}
	return tids
}

// All threads but the worker's keep off its CPU, those that begin later as well; one that was put
// there stays. They get it back when the engine stops.
func TestOthersKeepApart(t *testing.T) {
	cpu := lastCPU(t)
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	put, done := make(chan int), make(chan struct{})
	var own unix.CPUSet
	own.Set(cpu)
	var wg sync.WaitGroup
	wg.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this
		if err := unix.SchedSetaffinity(0, &own); err != nil {
			t.Error(err)
		}
		put <- unix.Gettid()
		<-done
	})
	stays := <-put
	// Perhaps the thread of a worker of another test as well: the first one of a process does not
	// end with its goroutine.
	there := map[int]bool{}
	for _, tid := range threads(t) {
		var set unix.CPUSet
		there[tid] = unix.SchedGetaffinity(tid, &set) == nil && set == own
	}
	if !there[stays] {
		t.Fatal("a thread is not where it was put")
	}
	a, _ := start(t, 1, func(c *Config) { c.Apart, c.Workers[0].CPU = true, cpu })
	for range 8 { // in a thread of its own each
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			unix.Poll(nil, 5)
		})
	}
	workers, others := 0, 0
	for _, tid := range threads(t) {
		var set unix.CPUSet
		switch {
		case unix.SchedGetaffinity(tid, &set) != nil: // it has ended
		case tid == a.workers[0].tid || there[tid]:
			if workers++; set != own {
				t.Errorf("thread %d has %d CPUs, want the worker's own", tid, set.Count())
			}
		default:
			if others++; set.IsSet(cpu) || set.Count() == 0 {
				t.Errorf("thread %d may run on the worker's CPU", tid)
			}
		}
	}
	a.Stop()
	for _, tid := range threads(t) {
		var set unix.CPUSet
		if unix.SchedGetaffinity(tid, &set) == nil && !there[tid] && tid != a.workers[0].tid && set != all {
			t.Errorf("thread %d has %d CPUs after the engine stopped, want all", tid, set.Count())
		}
	}
	close(done)
	wg.Wait()
	if workers < 2 || others < 3 {
		t.Errorf("%d threads of the worker's CPU and %d others were looked at", workers, others)
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

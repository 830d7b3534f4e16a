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
	return cpusDown(t)[0]
}

// cpusDown returns the CPUs that this process may use, the last one first, as many as there
// may be workers.
func cpusDown(t *testing.T) (cpus []int) {
	t.Helper()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for i := 1023; i >= 0; i-- {
		if all.IsSet(i) && len(cpus) < abi.MaxWorkers {
			cpus = append(cpus, i)
		}
	}
	return cpus
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

// All threads but the workers' keep off the CPUs of those, or off the first one's where each CPU
// has one; those that begin later as well. One that was put on a worker's CPU stays, and one with
// real-time priority. They get all back when the engine stops.
func TestOthersKeepApart(t *testing.T) {
	last := lastCPU(t)
	for _, tt := range []struct {
		name    string
		workers []int // their CPUs
	}{
		{"a worker", []int{last}},
		{"a worker on each CPU", cpusDown(t)},
	} {
		t.Run(tt.name, func(t *testing.T) { testOthersKeepApart(t, tt.workers) })
	}
}

func testOthersKeepApart(t *testing.T, cpus []int) {
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	first.Set(cpus[0])
	left := all // of all others
	for i, cpu := range cpus {
		if i == 0 || len(cpus) < all.Count() {
			left.Clear(cpu)
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	thread := func(prepare func() error) (tid int) {
		started := make(chan int)
		wg.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with this
			if err := prepare(); err != nil {
				t.Error(err)
			}
			started <- unix.Gettid()
			<-done
		})
		return <-started
	}
	defer wg.Wait()
	defer close(done)
	put := thread(func() error { return unix.SchedSetaffinity(0, &first) })
	urgent := thread(func() error {
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
		if err == unix.EPERM && os.Getuid() != 0 {
			return unix.SchedSetaffinity(0, &first) // stays for that
		}
		return err
	})
	// How it is before. Perhaps a thread is of a worker of another test: the first one of a process
	// does not end with its goroutine.
	stays := map[int]unix.CPUSet{}
	for _, tid := range threads(t) {
		var set unix.CPUSet
		if unix.SchedGetaffinity(tid, &set) == nil && (set != all || tid == urgent) {
			stays[tid] = set
		}
	}
	if was, there := stays[urgent]; stays[put] != first || !there || was.Count() == 0 {
		t.Fatalf("threads are not where they were put: %v", stays)
	}
	a, _ := start(t, len(cpus), func(c *Config) {
		c.Apart = true
		for i, cpu := range cpus {
			c.Workers[i].CPU = cpu
		}
	})
	for range 8 { // in a thread of its own each
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			unix.Poll(nil, 5)
		})
	}
	workers := map[int]int{}
	for i, w := range a.workers {
		workers[w.tid] = cpus[i]
	}
	others := 0
	for _, tid := range threads(t) {
		var set, want unix.CPUSet
		if unix.SchedGetaffinity(tid, &set) != nil {
			continue // it has ended
		}
		if cpu, worker := workers[tid]; worker {
			want.Set(cpu)
		} else if was, there := stays[tid]; there {
			want = was
		} else {
			want = left
			others++
		}
		if set != want {
			t.Errorf("thread %d may run on CPUs %x, want %x", tid, set[0], want[0])
		}
	}
	a.Stop()
	for _, tid := range threads(t) {
		var set unix.CPUSet
		_, worker := workers[tid]
		_, there := stays[tid]
		if unix.SchedGetaffinity(tid, &set) == nil && !there && !worker && set != all {
			t.Errorf("thread %d has %d CPUs after the engine stopped, want all", tid, set.Count())
		}
	}
	if others < 3 {
		t.Errorf("%d threads were looked at, want more", others)
	}
}

func TestOffLimits(t *testing.T) {
	set := func(cpus ...int) (s unix.CPUSet) {
		for _, cpu := range cpus {
			s.Set(cpu)
		}
		return s
	}
	for _, tt := range []struct {
		all, workers, want []int
	}{
		{[]int{0, 1}, []int{1}, []int{1}},
		{[]int{0, 1}, []int{1, 0}, []int{1}},
		{[]int{0, 1, 2}, []int{2, 1}, []int{1, 2}},
		{[]int{0, 1, 2}, []int{2, 1, 0}, []int{2}},
		{[]int{0}, []int{0}, []int{0}}, // of which no thread is moved: it has no others
		{[]int{0, 1}, []int{-1, -1}, nil},
		{[]int{0, 1}, []int{-1, 1}, []int{1}},
	} {
		var workers []Worker
		for _, cpu := range tt.workers {
			workers = append(workers, Worker{CPU: cpu})
		}
		if got := offLimits(set(tt.all...), workers); got != set(tt.want...) {
			t.Errorf("workers on %v of %v: off limits are %x, want %v", tt.workers, tt.all, got[0], tt.want)
		}
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

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// openNative opens the native queue or skips, saying what is missing.
func openNative(t testing.TB, o NativeOptions) *Native {
	t.Helper()
	n, err := OpenNative(o)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("needs CAP_BPF and CAP_PERFMON: %v", err)
	}
	if err != nil {
		t.Fatalf("opening the native queue: %v", err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing the native queue: %v", err)
		}
	})
	return n
}

// serve answers with verdict(request), on CPU 1 where there is one, until the
// test ends. It returns when the worker polls: on a kernel without preemption a
// requester that polls first may keep the worker's thread from starting.
func serve(t testing.TB, n *Native, verdict func(*abi.Request) abi.Verdict) {
	t.Helper()
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs: the requester polls on one, the worker on the other")
	}
	var stop atomic.Bool
	polling, done := make(chan error, 1), make(chan struct{})
	src := n.Sources()[0]
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			polling <- err
			return
		}
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // as package arbiter does
		var q abi.Request
		for !stop.Load() {
			if src.Next(&q) {
				src.Reply(&q, verdict(&q))
			}
			select {
			case polling <- nil:
			default:
			}
		}
	}()
	if err := <-polling; err != nil {
		t.Fatalf("pinning the worker: %v", err)
	}
	t.Cleanup(func() { stop.Store(true); <-done })
}

func TestNativeVerdicts(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{1}, Wait: time.Second})
	var all [abi.EventCount]abi.Fields
	for e := range all {
		all[e] = ^abi.Fields(0)
	}
	n.Configure(all, [abi.EventCount]abi.Verdict{})
	// The answer orders the two sides, but through the kernel: the race detector
	// sees a channel only.
	asked := make(chan abi.Request, 1)
	serve(t, n, func(q *abi.Request) abi.Verdict {
		asked <- *q
		return abi.Verdict{Errno: uint16(unix.EACCES)}
	})
	v, err := n.Run(0, make([]uint64, 1))
	if err != nil {
		t.Fatal(err)
	}
	if v.Errno != uint16(unix.EACCES) {
		t.Fatalf("verdict %d, want %d", v.Errno, unix.EACCES)
	}
	seen := <-asked                                    // an answer was given, so it is there
	comm, err := os.ReadFile("/proc/thread-self/comm") // all of our threads have the same
	if err != nil {
		t.Fatal(err)
	}
	if got, want := unix.ByteSliceToString(seen.Comm[:])+"\n", string(comm); got != want {
		t.Errorf("comm %q, want %q", got, want)
	}
	if int(seen.TGID) != unix.Getpid() || int(seen.UID) != unix.Getuid() {
		t.Errorf("subject %d uid %d, want %d uid %d", seen.TGID, seen.UID, unix.Getpid(), unix.Getuid())
	}
	c, err := n.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if c.Asked != 1 || c.Answered != 1 {
		t.Errorf("counts %+v, want one asked and answered", c)
	}

	// Texts of every length arrive whole, whatever was in the slot before.
	for _, length := range []int{0, 1, 63, 64, 65, 200, abi.PathBytes - 1, 64, 3} {
		path, exe := strings.Repeat("p", length), strings.Repeat("e", length)
		n.SetQuestion(ring.Facts{Event: uint32(abi.EventExec)}, path, exe)
		v, err := n.Run(0, make([]uint64, 1))
		if err != nil {
			t.Fatal(err)
		}
		if v.Errno != uint16(unix.EACCES) { // then nobody may have been asked
			t.Fatalf("texts of %d bytes: verdict %d, want %d", length, v.Errno, unix.EACCES)
		}
		if seen := <-asked; string(seen.Path()) != path || string(seen.Exe()) != exe {
			t.Errorf("texts of %d bytes: got %q and %q", length, seen.Path(), seen.Exe())
		}
	}
}

func TestNativeFailureVerdicts(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: 2 * time.Millisecond})
	var onFail [abi.EventCount]abi.Verdict
	onFail[abi.EventOpen].Errno = uint16(unix.EIO)
	n.Configure([abi.EventCount]abi.Fields{}, onFail)

	took := make([]uint64, 3)
	v, err := n.Run(-1, took) // nobody works
	if err != nil {
		t.Fatal(err)
	}
	if v.Errno != uint16(unix.EIO) {
		t.Errorf("failure verdict %d, want EIO", v.Errno)
	}
	if m := time.Duration(slices.Min(took)); m < 2*time.Millisecond {
		t.Errorf("gave up after %v, before the bound", m)
	}
	c, err := n.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if c.Asked != 3 || c.Failed[abi.ReasonDeadline] != 3 {
		t.Errorf("counts %+v, want 3 asked, 3 failed by deadline", c)
	}

	// A late worker finds nothing to answer.
	var q abi.Request
	if n.Sources()[0].Next(&q) {
		t.Errorf("an abandoned request was handed out: %+v", q.Ticket)
	}
}

func TestNativeStoppedHeart(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{1}, Wait: 5 * time.Millisecond})
	n.queue.Header().HeartbeatLimitNS = 0 // every heartbeat is too old
	took := make([]uint64, 1)
	if _, err := n.Run(-1, took); err != nil {
		t.Fatal(err)
	}
	c, err := n.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if c.Failed[abi.ReasonNoWorker] != 1 {
		t.Errorf("counts %+v, want one no_worker", c)
	}
	if d := time.Duration(took[0]); d > 100*time.Millisecond {
		t.Errorf("took %v with nobody there, want no wait at all", d)
	}
}

// A worker that says it polls and does not, because it lost its CPU, costs 50 µs and
// not the answer: then a parked one is woken.
func TestNativeSecondKick(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs: the requester polls on one, the workers are on the other")
	}
	const wait = 5 * time.Second
	n := openNative(t, NativeOptions{CPUs: []int{1, 1}, Wait: wait})
	away, sleeper := n.Sources()[0], n.Sources()[1]
	if away.Next(new(abi.Request)) { // hot from here on, and never again there
		t.Fatal("a question before anybody asked")
	}
	var stop atomic.Bool
	done, tid := make(chan struct{}), make(chan int, 1)
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with its affinity
		tid <- unix.Gettid()
		var set unix.CPUSet
		set.Set(1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Errorf("pinning the worker: %v", err)
			return
		}
		for q := new(abi.Request); !stop.Load(); sleeper.Park(wait) {
			for sleeper.Next(q) {
				sleeper.Reply(q, abi.Verdict{Errno: uint16(unix.EACCES)})
			}
		}
	}()
	t.Cleanup(func() { stop.Store(true); sleeper.Wake(); <-done })
	stat := fmt.Sprintf("/proc/self/task/%d/stat", <-tid)
	asleep := func() bool { // parked, and past its last look
		text, err := os.ReadFile(stat)
		return err == nil && atomic.LoadUint64(&n.queue.Header().Hot) == 1 && strings.Contains(string(text), ") S ")
	}
	if !waitFor(asleep) {
		t.Fatal("the other worker does not park")
	}
	took := make([]uint64, 1)
	v, err := n.Run(0, took)
	if err != nil {
		t.Fatal(err)
	}
	if v.Errno != uint16(unix.EACCES) {
		t.Errorf("verdict %d after %v, want %d by the worker that slept", v.Errno, time.Duration(took[0]), unix.EACCES)
	}
	t.Logf("answered after %v", time.Duration(took[0]))
}

// The same queue, hot: the worker on CPU 1, the requester on CPU 0. On a machine
// that others use too a worker can lose its CPU for milliseconds, so not every
// request must be answered; but every one has exactly one outcome.
func TestNativeHot(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{1}, Wait: 5 * time.Millisecond})
	serve(t, n, func(*abi.Request) abi.Verdict { return abi.Verdict{} })
	const asks, tries = 20_000, 10
	took := make([]uint64, asks)
	for try := range uint64(tries) {
		before, err := n.Counts(abi.EventOpen)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Run(0, took); err != nil {
			t.Fatal(err)
		}
		c, err := n.Counts(abi.EventOpen)
		if err != nil {
			t.Fatal(err)
		}
		outcomes := c.Answered
		for _, f := range c.Failed {
			outcomes += f
		}
		if c.Asked != (try+1)*asks || outcomes != c.Asked {
			t.Fatalf("counts %+v after %d requests: they do not add up", c, (try+1)*asks)
		}
		if c.Answered-before.Answered >= asks*99/100 {
			slices.Sort(took)
			t.Logf("p50 %d ns, p99 %d ns, max %d ns", took[asks/2], took[asks*99/100], took[asks-1])
			return
		}
	}
	t.Errorf("never were 99 %% of %d requests answered, in %d tries", asks, tries)
}

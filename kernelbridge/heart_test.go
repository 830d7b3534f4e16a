// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// burnEnv makes the test binary a program that keeps a CPU busy until its stdin ends.
const burnEnv = "KERNELBRIDGE_TEST_BURN"

func burn() {
	go func() {
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for spins := uint64(0); spins < 1<<62; spins++ { // for ever
	}
}

// On a machine full of work the hooks still see that the daemon lives. A virtual machine's
// CPUs are themselves away while the host has others to run, so one second of three is
// enough.
func TestHeartUnderLoad(t *testing.T) {
	n := openNative(t, NativeOptions{CPUs: []int{-1}, Wait: time.Millisecond})
	for range 10 * runtime.NumCPU() {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), burnEnv+"=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Process.Kill()
			cmd.Wait()
		})
	}
	// Who looks must not be late either.
	runtime.LockOSThread() // never unlocked: the thread ends with its priority
	if err := unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 2}, 0); err != nil {
		t.Skip("needs CAP_SYS_NICE for a real-time thread: " + err.Error())
	}
	every := unix.NsecToTimespec(int64(time.Millisecond))
	oldest := heartbeatLimit
	for try := 0; try < 3 && oldest >= heartbeatLimit; try++ {
		oldest = 0
		for begin := time.Now(); time.Since(begin) < time.Second; {
			unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &every, nil)
			age := time.Duration(monotonic() - int64(atomic.LoadUint64(&n.queue.Header().HeartbeatNS)))
			oldest = max(oldest, age)
		}
		t.Logf("the heart was late by %v at most", oldest-heartbeatEvery)
	}
	if oldest >= heartbeatLimit {
		t.Errorf("the heartbeat was %v old in each of three seconds, want less than %v", oldest, heartbeatLimit)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// ask opens path once for each line of stdin. Before and after it writes the time, after
// also the errno: that of the system call alone, with nothing of a process that starts.
func ask(path string) int {
	var set unix.CPUSet
	set.Set(0)
	_ = unix.SchedSetaffinity(0, &set)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		fmt.Println(monotonic().Nanoseconds())
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		errno, _ := err.(unix.Errno)
		fmt.Println(monotonic().Nanoseconds(), int(errno))
		unix.Close(fd)
	}
	return 0
}

// monotonic is a time that processes can compare.
func monotonic() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return time.Duration(now.Nano())
}

// asker is a process that asks when it is told to.
type asker struct {
	t   *testing.T
	in  io.Writer
	out chan string
}

func startAsker(t *testing.T, path string) *asker {
	t.Helper()
	return startAskerOf(t, "/proc/self/exe", path)
}

// startAskerOf is startAsker with another copy of the test.
func startAskerOf(t *testing.T, program, path string) *asker {
	t.Helper()
	cmd := exec.Command(program, path)
	cmd.Env = append(os.Environ(), roleEnv+"=asker")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	a := &asker{t: t, in: in, out: make(chan string, 16)}
	go func() {
		defer close(a.out)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			a.out <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		for range a.out { // until its end: Wait closes the pipe
		}
		cmd.Wait()
	})
	return a
}

// begin has it ask, and returns when it is about to.
func (a *asker) begin() (at time.Duration) {
	a.t.Helper()
	fmt.Fprintln(a.in)
	if _, err := fmt.Sscan(next(a.t, "the beginning of the open", a.out), &at); err != nil {
		a.t.Fatal(err)
	}
	return at
}

// end returns when the open returned and with what.
func (a *asker) end() (at time.Duration, errno unix.Errno) {
	a.t.Helper()
	if _, err := fmt.Sscan(next(a.t, "the end of the open", a.out), &at, &errno); err != nil {
		a.t.Fatal(err)
	}
	return at, errno
}

// stillBeats is how long after a daemon was stopped the kernel side takes it for alive
// at least: its heartbeat, which comes every 20 ms, may be 100 ms old.
const stillBeats = 50 * time.Millisecond

// frozen is a daemon that has refused an open and is stopped now, and who will ask it
// again. It answers nobody. It says since when.
func frozen(t *testing.T) (*runs, *asker, time.Duration) {
	t.Helper()
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.soon(unix.EPERM, "bad")
	a := startAsker(t, d.tree+"/secret")
	for range 5 { // as soon does: under emulation a wait can reach its bound
		a.begin()
		if _, errno := a.end(); errno != 0 {
			since := monotonic()
			d.freeze()
			return d, a, since
		}
	}
	t.Fatalf("the open is not refused while the daemon lives: %v\n%s", d.status().KernelCounters, d.log)
	return nil, nil, 0
}

// tries is how often what a slow machine can make meaningless is tried.
const tries = 5

// With a daemon that is stopped and not dead the kernel side ends the hold at its bound.
func TestStoppedDaemon(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: it is about the bound of bpf-lsm")
	}
	for range tries {
		d, a, since := frozen(t)
		begin := a.begin()
		end, errno := a.end()
		took := end - begin
		if errno != 0 {
			t.Errorf("the open ended after %v with %v; want success, the open failure verdict", took, errno)
		}
		if took >= kernelbridge.MaxWait {
			return
		}
		if begin-since < stillBeats {
			t.Fatalf("the open ended after %v; want it held for %v", took, kernelbridge.MaxWait)
		}
		t.Logf("asked %v after the daemon was stopped, when nobody took it for alive", begin-since)
		d.kill()
	}
	t.Errorf("in %d tries nobody asked while the daemon was taken for alive", tries)
}

// kill -9 of the daemon while a task is held: the task goes on by the failure verdict,
// which is open, and nothing stays behind. An open that is not held takes microseconds,
// so one that lasts until the kill is held.
func TestKilledDaemon(t *testing.T) {
	for range tries {
		if killWhileHeld(t) {
			return
		}
	}
	t.Errorf("in %d tries no kill fell into a held open", tries)
}

// killWhileHeld reports whether the open was held when the daemon was killed. A kill that
// comes after the bound of bpf-lsm proves nothing, nor does an open that comes when the
// stopped daemon is not taken for alive any more: a slow machine.
func killWhileHeld(t *testing.T) bool {
	t.Helper()
	wait, bound, alive := 300*time.Millisecond, time.Duration(defaults().HoldLimit), time.Duration(math.MaxInt64)
	if inGuest() {
		wait, bound, alive = kernelbridge.MaxWait/5, kernelbridge.MaxWait, stillBeats
	}
	d, a, since := frozen(t)
	begin := a.begin()
	unix.Poll(nil, int(wait.Milliseconds())) // it ends by itself before, or is held
	killed := monotonic()
	d.kill()
	end, errno := a.end()
	if end < killed && end-begin < bound && begin-since < alive {
		t.Errorf("with a stopped daemon the open was not held: it took %v", end-begin)
	}
	if errno != 0 {
		t.Errorf("held while the daemon was killed: %v, want success, the open failure verdict", errno)
	}
	t.Logf("asked %v after the stop, killed after %v, went on %v after the kill", begin-since, killed-begin, end-killed)
	if got := d.try("bad"); got != 0 {
		t.Errorf("an exec after the daemon is gone: %v, want success", got)
	}
	a.begin()
	if _, errno := a.end(); errno != 0 {
		t.Errorf("an open after the daemon is gone: %v, want success", errno)
	}
	return end > killed || t.Failed()
}

// kill -9 under load: nobody who opens in the scope, then or later, is held beyond the
// bound, and who opens outside of it notices nothing.
func TestKilledDaemonUnderLoad(t *testing.T) {
	dir := newTree(t)
	outside := dir + "/outside"
	if err := os.WriteFile(outside, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.soon(unix.EPERM, "bad")
	canary := startOpener(t, outside)
	var held []*opener
	for range 4 {
		held = append(held, startOpener(t, d.tree+"/secret"))
	}
	unix.Poll(nil, 500)
	d.kill()
	bound := time.Duration(defaults().HoldLimit)
	if inGuest() {
		bound = kernelbridge.MaxWait
	}
	unix.Poll(nil, int(bound.Milliseconds()))
	after := startOpener(t, d.tree+"/secret")
	unix.Poll(nil, 500)
	const slack = 2 * time.Second // on emulated CPUs, and on those that others use
	if o := after.stop(); len(o.Errnos) != 1 || o.Errnos[0] == 0 || o.Worst > slack {
		t.Errorf("opens after the daemon's death: %+v, want success at once", o)
	}
	refused := 0
	for _, one := range held {
		o := one.stop()
		if o.Errnos[0] == 0 || o.Worst > bound+slack {
			t.Errorf("opens before and after the daemon's death: %+v, want each within %v, the last with success", o, bound)
		}
		refused += o.Errnos[unix.EACCES] + o.Errnos[unix.EPERM]
	}
	o := canary.stop()
	t.Attr("seen", fmt.Sprintf("the daemon was killed after %d refusals; outside of the scope %d opens, %v at the longest", refused, o.Errnos[0], o.Worst))
	if refused == 0 || len(o.Errnos) != 1 || o.Worst > slack {
		t.Errorf("%d refusals; opens outside of the scope: %+v, want success at once", refused, o)
	}
}

// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

const roleEnv = "GUARD_TEST_ROLE"

func TestMain(m *testing.M) {
	Main()
	if os.Getenv(roleEnv) == "daemon" {
		daemon()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// daemon starts a guard with the limit in its first line of input, tells its pid,
// beats once per further line, and ends with its input.
func daemon() {
	in := bufio.NewScanner(os.Stdin)
	in.Scan()
	limit, err := time.ParseDuration(in.Text())
	if err != nil {
		panic(err)
	}
	// What the guard must not inherit; without root there is just the second.
	unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC, unix.O_RDONLY)
	unix.InotifyInit1(unix.IN_CLOEXEC)
	g, err := Start(Options{Limit: limit})
	if err != nil {
		panic(err)
	}
	fmt.Println(g.PID())
	for in.Scan() {
		g.Beat()
		fmt.Println("beat")
	}
}

// child is a daemon process under the test's control.
type child struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Scanner
	guard int // pidfd of its guard
	pid   int // of the guard
	done  chan error
}

func newChild(t *testing.T, limit time.Duration) *child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=daemon")
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
	c := &child{cmd: cmd, in: in, out: bufio.NewScanner(out), done: make(chan error, 1)}
	t.Cleanup(func() { in.Close(); cmd.Process.Kill(); cmd.Wait() })
	fmt.Fprintln(in, limit)
	if !c.out.Scan() {
		t.Fatal("the daemon told no guard's pid")
	}
	if c.pid, err = strconv.Atoi(c.out.Text()); err != nil {
		t.Fatal(err)
	}
	if c.guard, err = unix.PidfdOpen(c.pid, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(c.guard) })
	return c
}

func (c *child) beat(t *testing.T) {
	t.Helper()
	fmt.Fprintln(c.in, "beat")
	if !c.out.Scan() {
		t.Fatal("the daemon is gone")
	}
}

// ended waits for the process behind a pidfd.
func ended(pidfd int, d time.Duration) bool {
	end := time.Now().Add(d)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, max(int(time.Until(end).Milliseconds()), 0))
		if err != unix.EINTR {
			return n > 0
		}
	}
}

func TestKillsAStoppedDaemon(t *testing.T) {
	const limit = 400 * time.Millisecond
	c := newChild(t, limit)
	c.beat(t)
	begin := time.Now()
	if err := c.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(20*time.Second, func() { c.cmd.Process.Kill() })
	err := c.cmd.Wait()
	took := time.Since(begin)
	if !timer.Stop() {
		t.Fatal("the stopped daemon was not killed in 20s")
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(interface{ Signal() unix.Signal }).Signal() != unix.SIGKILL {
		t.Errorf("daemon ended with %v, want killed by SIGKILL", err)
	}
	if took < limit/2 {
		t.Errorf("killed after %v, want about %v", took, limit)
	}
	if !ended(c.guard, 10*time.Second) {
		t.Error("the guard stays after its daemon")
	}
}

func TestSparesADaemonThatNeverBeat(t *testing.T) {
	c := newChild(t, MinLimit)
	if ended(c.guard, 5*MinLimit) {
		t.Fatal("the guard has ended, want it to wait for the first beat")
	}
	c.beat(t) // it lives
	c.in.Close()
	if !ended(c.guard, 10*time.Second) {
		t.Error("the guard stays after its daemon")
	}
}

func TestHoldsNothingOfTheDaemon(t *testing.T) {
	c := newChild(t, DefaultLimit)
	dir := fmt.Sprintf("/proc/%d/fd", c.pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range fds {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue
		}
		if strings.Contains(target, "notify") {
			t.Errorf("the guard has descriptor %s open: %s, so the daemon's death would not let go", e.Name(), target)
		}
	}
}

func TestCloseEndsTheGuard(t *testing.T) {
	g, err := Start(Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.Beat()
	g.Disarm()
	for range 2 {
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g.Beat() // no crash after Close
	select {
	case <-g.Done():
	default:
		t.Error("Done is open after Close")
	}
}

func TestRefusesAShortLimit(t *testing.T) {
	if _, err := Start(Options{Limit: time.Millisecond}); err == nil || !strings.Contains(err.Error(), MinLimit.String()) {
		t.Errorf("got %v, want an error that names %v", err, MinLimit)
	}
}

func TestKeepsItsMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root (or RLIMIT_MEMLOCK) for mlockall")
	}
	c := newChild(t, DefaultLimit)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "\nVmLck:")
	if locked := strings.Fields(after); len(locked) == 0 || locked[0] == "0" {
		t.Errorf("VmLck: got %.20q, want locked memory", after)
	}
}

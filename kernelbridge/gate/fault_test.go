// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// opened returns a gate with one sleeper process and no worker.
func opened(t *testing.T) (*Gate, *queue, *sleeper) {
	t.Helper()
	q, f := newQueue(t)
	g := openFor(t, Options{Workers: 1, Slots: q})
	s := newSleeper(t, g.Identity().PID, f)
	t.Cleanup(g.Abort) // or a killed sleeper would wait for a tick
	return g, q, s
}

func (g *Gate) asleep(slot int) bool { return g.sleepers.unique[slot].Load() != 0 }

// fallAsleep makes s sleep on slot and returns when the gate knows.
func fallAsleep(t *testing.T, g *Gate, s *sleeper, o order) {
	t.Helper()
	s.start(o)
	for i := range max(o.Count, 1) {
		eventually(t, "a noted sleep", func() bool { g.Tick(); return g.asleep(o.First + i) })
	}
}

func TestForeign(t *testing.T) {
	g, q, s := opened(t)
	beat(t, g)
	for _, tc := range []struct {
		name    string
		order   order
		counted bool // it comes as far as the gate
		want    unix.Errno
	}{
		{"no such slot in use", order{First: 3, NoPost: true}, true, unix.ENODATA},
		{"slot of another task", order{First: 4, NoPost: true}, true, unix.ENODATA},
		{"another attribute", order{First: 3, Name: "user.other"}, true, unix.ENODATA},
		{"a longer name", order{First: 3, Name: Attribute + "x"}, true, unix.ENODATA},
		{"a capability", order{First: 3, Name: "security.capability"}, true, unix.ENODATA},
		{"a size without a slot", order{First: 3, Size: abi.Slots + 1}, true, unix.ENODATA},
		{"a very large size", order{First: 3, Size: 65536}, true, unix.ENODATA},
		{"a size beyond all", order{First: 3, Size: 1 << 20}, true, unix.ENODATA}, // cut to XATTR_SIZE_MAX
		{"the size asked for", order{First: 3, Size: -1}, true, unix.ENODATA},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q.slots[4].tid.Store(1)
			before, served := g.Stats().Foreign, g.Served()
			tc.order.Once = true
			s.start(tc.order)
			if o := s.wait(); o.Errno != tc.want {
				t.Errorf("got %v, want %v", o.Errno, tc.want)
			}
			if got := g.Stats().Foreign - before; (got == 1) != tc.counted {
				t.Errorf("counted %d foreign requests, want it counted: %t", got, tc.counted)
			}
			if got := g.Served(); got != served && g.Served() > q.Sleeps() {
				t.Errorf("served went from %d to %d for a foreign request", served, got)
			}
		})
	}
	// After that the gate works as before.
	work(t, g, q, false, -1)
	s.start(order{First: 5, Rounds: 10})
	if o := s.wait(); o.Errno != 0 {
		t.Errorf("a sleep after all that: %v", o.Errno)
	}
}

// What else a file can be asked is refused at once and does no harm.
func TestOtherRequests(t *testing.T) {
	g, _ := open(t, 1)
	beat(t, g)
	fd := file(t, g.Identity().PID)
	b := make([]byte, 4096)
	if n, err := unix.Pread(fd, b, 0); err != nil || n != len(g.image) || string(b[:n]) != string(g.image) {
		t.Errorf("read %d bytes, %v, want the helper's %d", n, err, len(g.image))
	}
	if n, err := unix.Pread(fd, b, int64(len(g.image))); n != 0 || err != nil {
		t.Errorf("read %d bytes behind the end, %v, want none", n, err)
	}
	for name, err := range map[string]error{
		"setxattr": unix.Fsetxattr(fd, Attribute, []byte("x"), 0),
		"truncate": unix.Fchmod(fd, 0o777),
	} {
		if !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: %v, want EROFS", name, err)
		}
	}
	if _, err := unix.Flistxattr(fd, b); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("listxattr: %v, want EOPNOTSUPP", err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err == nil {
		t.Errorf("statfs succeeds")
	}
	if _, err := unix.IoctlGetInt(fd, unix.TIOCGETD); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("ioctl: %v, want ENOTTY", err)
	}
	if _, err := unix.Open("/proc/"+strconv.Itoa(g.Identity().PID)+"/exe", unix.O_RDWR, 0); err == nil {
		t.Error("the file opens for writing")
	}
}

// A task that is killed before its request was read leaves by itself, and the count
// of sleeps, which it has raised, does not keep polling workers busy for ever.
func TestKilledBeforeRead(t *testing.T) {
	g, q, s := opened(t)
	s.start(order{First: 9, Rounds: 1})
	eventually(t, "the sleep", func() bool { return blocked(s.cmd.Process.Pid) })
	start := time.Now()
	s.cmd.Process.Kill()
	s.ended()
	if d := time.Since(start); d > MaxSleep {
		t.Errorf("ended after %v, want at once", d)
	}
	if q.Sleeps() == g.Served() {
		t.Fatalf("sleeps %d, served %d, want them to differ", q.Sleeps(), g.Served())
	}
	for range 3 {
		g.Tick()
	}
	if q.Sleeps() != g.Served() {
		t.Errorf("three ticks later sleeps %d, served %d, want them equal", q.Sleeps(), g.Served())
	}
}

// A task that is killed after its request was read ends with the next ticks, not
// only when its sleep would.
func TestKilledAfterRead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first unix.Signal
	}{{"at once", 0}, {"after another signal", unix.SIGURG}} {
		t.Run(tc.name, func(t *testing.T) {
			g, _, s := opened(t)
			fallAsleep(t, g, s, order{First: 9})
			if tc.first != 0 {
				s.cmd.Process.Signal(tc.first)
			}
			beat(t, g)
			start := time.Now()
			s.cmd.Process.Kill()
			s.ended()
			d := time.Since(start)
			t.Logf("ended %v after SIGKILL", d)
			// 100 ms where the machine is not busy with something else.
			if d > MaxSleep {
				t.Errorf("ended %v after SIGKILL, want it long before a sleep ends by itself", d)
			}
			eventually(t, "an interrupted sleep in the counters", func() bool { return g.Stats().Interrupted > 0 })
			if st := g.Stats(); st.Expired != 0 {
				t.Errorf("counters %+v, want none expired", st)
			}
		})
	}
}

// A storm of signals makes a task look at its slot at every tick and no oftener, and
// it gets its answer.
func TestSignalStorm(t *testing.T) {
	g, q, s := opened(t)
	fallAsleep(t, g, s, order{First: 9})
	const ticks = 25
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range ticks * 20 {
		<-tick.C
		for _, tid := range threadsOf(t, s.cmd.Process.Pid) {
			unix.Tgkill(s.cmd.Process.Pid, tid, unix.SIGURG)
		}
		if i%20 == 0 {
			g.Tick()
		}
	}
	if got := q.Sleeps(); got < 3 || got > ticks+2 {
		t.Errorf("%d sleeps in %d ticks, want about one per tick", got, ticks)
	}
	select {
	case o := <-s.done:
		t.Fatalf("the sleep ended without an answer: %v", o.Errno)
	default:
	}
	q.answer(9)
	g.Release(9)
	beat(t, g)
	if o := s.wait(); o.Errno != 0 {
		t.Errorf("answered with %v", o.Errno)
	}
}

// A sleep that nobody ends is ended after MaxSleep.
func TestExpires(t *testing.T) {
	g, q, s := opened(t)
	fallAsleep(t, g, s, order{First: 9, Once: true})
	g.Tick()
	if !g.asleep(9) {
		t.Fatal("a young sleep has ended")
	}
	g.sleepers.since[9].Add(-int64(MaxSleep))
	g.Tick()
	if o := s.wait(); o.Errno != unix.ENODATA {
		t.Errorf("an old sleep ended with %v, want ENODATA", o.Errno)
	}
	if st := g.Stats(); st != (Stats{Expired: 1}) {
		t.Errorf("counters %+v, want one expired", st)
	}
	_ = q
}

// sleepersEnd requires that count sleeps in s end at once with an error of the
// connection.
func sleepersEnd(t *testing.T, s *sleeper, start time.Time) {
	t.Helper()
	o := s.wait()
	t.Logf("all ended %v later", time.Since(start))
	if o.Errno != unix.ECONNABORTED && o.Errno != unix.ENOTCONN {
		t.Errorf("the sleeps ended with %v, want ECONNABORTED or ENOTCONN", o.Errno)
	}
	if d := time.Since(start); d > MaxSleep {
		t.Errorf("they ended %v later, want at once", d)
	}
	s.start(order{First: 9, Once: true})
	if o := s.wait(); o.Errno != unix.ENOTCONN && o.Errno != unix.ECONNABORTED {
		t.Errorf("a sleep on a gate that has gone: %v, want ENOTCONN", o.Errno)
	}
}

func TestAbort(t *testing.T) {
	g, _, s := opened(t)
	p, err := g.Parker(0, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	fallAsleep(t, g, s, order{First: 3, Count: 40})
	start := time.Now()
	g.Abort()
	sleepersEnd(t, s, start)
	within(t, "Done", func() { <-g.Done() })
	// What is left does nothing, but parking still works: the first wait takes
	// the wake-up, the others last.
	g.Tick()
	g.Release(3)
	p.Serve()
	within(t, "the first wait", func() { p.Wait(patience) })
	sleeps(t, p)
	g.Abort()
}

// Abort may come while everybody is busy.
func TestAbortAmidWork(t *testing.T) {
	for _, polling := range []bool{false, true} {
		q, f := newQueue(t)
		g := openFor(t, Options{Workers: 2, Slots: q})
		beat(t, g)
		work(t, g, q, polling, -1, -1)
		s := newSleeper(t, g.Identity().PID, f)
		s.start(order{Count: 8, Rounds: 1e6})
		eventually(t, "1000 sleeps", func() bool { return g.Served() > 1000 })
		start := time.Now()
		g.Abort()
		sleepersEnd(t, s, start)
	}
}

// When the helper has ended Done tells. Who sleeps goes on until Abort.
func TestHelperKilled(t *testing.T) {
	g, _, s := opened(t)
	fallAsleep(t, g, s, order{First: 3})
	if err := unix.Kill(g.Identity().PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	within(t, "Done", func() { <-g.Done() })
	g.Tick()
	if !g.asleep(3) {
		t.Error("the sleep has ended with the helper")
	}
	start := time.Now()
	g.Abort()
	sleepersEnd(t, s, start)
}

// When the daemon is killed every sleep ends at once, and so does the helper.
func TestDaemonKilled(t *testing.T) {
	open(t, 1) // or skip
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=daemon")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the daemon did not start: %v", err)
	}
	helper, _ := strconv.Atoi(strings.TrimSpace(line))
	pidfd, err := unix.PidfdOpen(helper, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	_, f := newQueue(t)
	s := newSleeper(t, helper, f)
	s.start(order{First: 100, Count: 50})
	eventually(t, "50 sleeps", func() bool {
		n := 0
		for _, tid := range threadsOf(t, s.cmd.Process.Pid) {
			if inGetxattr(s.cmd.Process.Pid, tid) {
				n++
			}
		}
		return n == 50
	})
	start := time.Now()
	cmd.Process.Kill()
	sleepersEnd(t, s, start)
	// A pidfd is readable when the process has ended.
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		timeout := unix.NsecToTimespec(int64(patience))
		n, err := unix.Ppoll(fds, &timeout, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 {
			t.Errorf("the helper is still there after %v: %v", patience, err)
		}
		break
	}
}

// threadsOf lists the threads of a process.
func threadsOf(t *testing.T, pid int) (tids []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		tid, _ := strconv.Atoi(e.Name())
		tids = append(tids, tid)
	}
	return tids
}

// inGetxattr reports whether a thread is in the system call fgetxattr.
func inGetxattr(pid, tid int) bool {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/syscall")
	return strings.HasPrefix(string(text), strconv.Itoa(unix.SYS_FGETXATTR)+" ")
}

// blocked reports whether a thread of the process is.
func blocked(pid int) bool {
	entries, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	for _, e := range entries {
		if tid, _ := strconv.Atoi(e.Name()); inGetxattr(pid, tid) {
			return true
		}
	}
	return false
}

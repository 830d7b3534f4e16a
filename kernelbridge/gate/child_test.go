// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper is always another process than the gate's. A thread of our own that
// sleeps while the process is killed would never wake up: it could not leave without
// a reply, and as long as it is there so are the descriptors of /dev/fuse.

// order is what a sleeper is told to do: Count threads, one per slot from First on,
// ask Rounds times each.
type order struct {
	First, Count, Rounds int
	Pinned               bool   // to CPU 0, and without the Go scheduler: a few threads only
	Once                 bool   // one getxattr instead, whatever it returns
	Name                 string // of the attribute, instead of Attribute
	Size                 int    // of the buffer, instead of the slot and 1; below 0 for none
	NoPost               bool   // do not post a question
}

// outcome is what came of it.
type outcome struct {
	Sleeps   int        // getxattr calls
	Errno    unix.Errno // of the last that failed in a way it must not; of the one with Once
	Took     time.Duration
	P50, P99 time.Duration // of one round
}

// sleeper is a child process that sleeps on the gate.
type sleeper struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan outcome
}

// newSleeper starts a sleeper on the file of process pid.
func newSleeper(t testing.TB, pid int, q *os.File) *sleeper {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", strconv.Itoa(pid))
	cmd.Env = append(os.Environ(), roleEnv+"=sleeper")
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{q}
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
	s := &sleeper{t: t, cmd: cmd, in: in, done: make(chan outcome, 4)}
	go func() {
		defer close(s.done)
		for d := json.NewDecoder(bufio.NewReader(out)); ; {
			var o outcome
			if d.Decode(&o) != nil {
				cmd.Wait()
				return
			}
			s.done <- o
		}
	}()
	t.Cleanup(func() { // before the gate is closed
		in.Close()
		cmd.Process.Kill()
		for range s.done {
		}
	})
	return s
}

func (s *sleeper) start(o order) {
	s.t.Helper()
	if o.Count == 0 {
		o.Count = 1
	}
	if o.Rounds == 0 {
		o.Rounds = 1
	}
	line, _ := json.Marshal(o)
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sleeper) wait() outcome {
	s.t.Helper()
	select {
	case o, ok := <-s.done:
		if !ok {
			s.t.Fatal("the sleeper has ended")
		}
		return o
	case <-time.After(patience):
		s.t.Fatalf("still asleep after %v", patience)
	}
	panic("unreachable")
}

// ended waits for the process to end.
func (s *sleeper) ended() {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience):
		s.t.Fatalf("a killed sleeper is still there after %v", patience)
	}
}

func sleeperMain() {
	debug.SetGCPercent(-1) // no signals of the runtime's own
	pid, _ := strconv.Atoi(os.Args[1])
	fd, err := openFile(pid)
	if err == nil {
		var q *queue
		if q, _, err = mapQueue(3); err == nil {
			err = obey(q, fd)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sleeper:", err)
		os.Exit(2)
	}
}

func obey(q *queue, fd int) error {
	d := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := d.Decode(&o); err != nil {
			return nil
		}
		var mu sync.Mutex
		var sum outcome
		var took []time.Duration
		var threads sync.WaitGroup
		begin := time.Now()
		for i := range o.Count {
			threads.Go(func() {
				runtime.LockOSThread()
				if o.Pinned {
					pin(0)
				}
				sleeps, errno, each := q.ask(fd, o.First+i, &o)
				mu.Lock()
				defer mu.Unlock()
				sum.Sleeps += sleeps
				sum.Errno = max(sum.Errno, errno)
				took = append(took, each...)
			})
		}
		threads.Wait()
		sum.Took = time.Since(begin)
		slices.Sort(took)
		sum.P50, sum.P99 = took[len(took)/2], took[len(took)*99/100]
		line, _ := json.Marshal(sum)
		os.Stdout.Write(append(line, '\n'))
	}
}

// ask does what an order says, on one thread and slot.
func (q *queue) ask(fd, slot int, o *order) (sleeps int, errno unix.Errno, took []time.Duration) {
	took = make([]time.Duration, 0, o.Rounds)
	size := slot + 1
	if o.Size != 0 {
		size = max(o.Size, 0)
	}
	buf, tid := make([]byte, size), unix.Gettid()
	if o.Once {
		name := Attribute
		if o.Name != "" {
			name = o.Name
		}
		if !o.NoPost {
			q.post(slot, tid)
			q.sleeps.Add(1)
		}
		_, err := unix.Fgetxattr(fd, name, buf)
		errors.As(err, &errno)
		q.free(slot)
		return 1, errno, append(took, 0)
	}
	for range o.Rounds {
		q.post(slot, tid)
		begin := monotonic()
		for {
			sleeps++
			q.sleeps.Add(1)
			var e unix.Errno
			if o.Pinned {
				e = rawGetxattr(fd, buf)
			} else {
				_, err := unix.Fgetxattr(fd, Attribute, buf)
				errors.As(err, &e)
			}
			if q.answered(slot) {
				break
			}
			if e != unix.ENODATA && e != unix.EINTR {
				q.free(slot)
				return sleeps, e, append(took, 0)
			}
		}
		took = append(took, time.Duration(monotonic()-begin))
		q.free(slot)
	}
	return sleeps, 0, took
}

// pin binds the thread to a CPU.
func pin(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // as the daemon's workers
	return unix.SchedSetaffinity(0, &set)
}

// anyone is a queue in which everybody waits for ever.
type anyone struct{}

func (anyone) State(int, uint32) State { return Waiting }
func (anyone) Sleeps() uint64          { return 0 }

// daemonMain opens a gate, says which process its helper is, and serves it until it
// is killed.
func daemonMain() {
	g, err := Open(Options{Workers: 2, Slots: anyone{}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "daemon:", err)
		os.Exit(2)
	}
	fmt.Println(g.Identity().PID)
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		g.Tick()
	}
}

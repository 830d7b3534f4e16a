// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
)

const (
	treeEnv    = "FANOTIFY_TEST_TREE"
	guardLimit = 500 * time.Millisecond
)

// daemonMain is a daemon that takes one request and never answers it.
func daemonMain() {
	g, err := guard.Start(guard.Options{Limit: guardLimit})
	if err != nil {
		panic(err)
	}
	b, err := Open(Options{Trees: []string{os.Getenv(treeEnv)}, Workers: 1, Exempt: []int{g.PID()},
		HoldLimit: MaxHoldLimit, OnFail: failing(unix.EPERM), Beat: g.Beat})
	if err != nil {
		panic(err)
	}
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r)
	fmt.Println("open")
	for !s.Next(r) {
		s.Park(time.Second)
	}
	fmt.Println("held")
	io.Copy(io.Discard, os.Stdin)
}

// TestDaemonEnds: whatever becomes of the daemon, the task it holds goes on.
func TestDaemonEnds(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name   string
		signal unix.Signal
	}{{"killed", unix.SIGKILL}, {"stopped", unix.SIGSTOP}} {
		t.Run(c.name, func(t *testing.T) {
			dir := mounted(t)
			sub := newSubject(t)
			cmd := exec.Command("/proc/self/exe")
			cmd.Env = append(os.Environ(), roleEnv+"=daemon", treeEnv+"="+dir)
			cmd.Stderr = os.Stderr
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
			defer cmd.Wait()
			defer cmd.Process.Kill()
			defer in.Close()
			lines := bufio.NewScanner(out)
			if !lines.Scan() || lines.Text() != "open" {
				t.Fatal("the daemon did not come up")
			}
			sub.start(action{Do: "open", Path: []byte(dir + "/file")})
			if !lines.Scan() || lines.Text() != "held" {
				t.Fatal("the daemon holds nothing")
			}
			begin := time.Now()
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			o := sub.wait()
			if o.Errno != 0 {
				t.Errorf("open: got %v, want success", unix.Errno(o.Errno))
			}
			t.Logf("went on %v after the signal", time.Since(begin))
		})
	}
}

func TestExemptProcess(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	friend, other := newSubject(t), newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Exempt: []int{friend.pid()}})
	j := serve(t, b.Sources()[0], deny)
	for _, how := range []string{"this kernel", "as on 5.0"} {
		if how == "as on 5.0" {
			j.end()
			b.features = features{}
			j = serve(t, b.Sources()[0], deny)
		}
		if e := friend.open(dir + "/file"); e != 0 {
			t.Errorf("%s: exempt process: got %v, want success", how, e)
		}
		friend.start(action{Do: "thread", Path: []byte(dir + "/file")})
		if o := friend.wait(); o.Errno != 0 {
			t.Errorf("%s: thread of an exempt process: got %v, want success", how, unix.Errno(o.Errno))
		}
		if e := other.open(dir + "/file"); e != unix.EPERM {
			t.Errorf("%s: other process: got %v, want %v", how, e, unix.EPERM)
		}
	}
	j.end()
	if st := b.Stats(); st.Exempt != 4 || st.Answered != 2 {
		t.Errorf("got %d exempt, %d answered, want 4, 2", st.Exempt, st.Answered)
	}
}

func TestAddExempt(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	friend := newSubject(t)
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], deny)
	if e := friend.open(dir + "/file"); e != unix.EPERM {
		t.Errorf("before: got %v, want %v", e, unix.EPERM)
	}
	if err := b.AddExempt(friend.pid()); err != nil {
		t.Fatal(err)
	}
	if e := friend.open(dir + "/file"); e != 0 {
		t.Errorf("afterwards: got %v, want success", e)
	}
	if err := b.AddExempt(-1); err == nil {
		t.Error("process -1: got no error")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.AddExempt(friend.pid()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
}

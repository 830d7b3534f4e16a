// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
)

// selfMain is a daemon whose own file is in its tree. It starts a guard while its only
// worker refuses every exec.
func selfMain() {
	b, err := Open(Options{Trees: []string{os.Getenv(treeEnv)}, Workers: 1, HoldLimit: MaxHoldLimit})
	if err != nil {
		panic(err)
	}
	s, r := b.Sources()[0], new(abi.Request)
	if s.Next(r) { // before it, all get the failure verdict
		panic("somebody asks already")
	}
	go func() {
		for ; ; s.Park(time.Second) {
			for s.Next(r) {
				v := abi.Verdict{}
				if r.Event == abi.EventExec {
					v = deny(r)
				}
				s.Reply(r, v)
			}
		}
	}()
	fmt.Println("open")
	var g *guard.Guard
	err = b.ExecSelf(func() (err error) {
		g, err = guard.Start(guard.Options{})
		return err
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("started")
	io.Copy(io.Discard, os.Stdin)
	fmt.Printf("%+v\n", b.Stats())
	g.Close()
}

// TestSelfInScope: the daemon cannot answer while it executes itself, and need not.
// The rules refuse to execute anything.
func TestSelfInScope(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	copySelf(t, dir+"/daemon")
	cmd := exec.Command(dir + "/daemon")
	cmd.Env = append(os.Environ(), roleEnv+"=self", treeEnv+"="+dir, "GOMAXPROCS=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer endFamily(cmd.Process.Pid)
	lines := make(chan string, 4)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	for _, want := range []string{"open", "started"} {
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(patience / 2):
			t.Fatalf("%q: not after %v", want, patience/2)
		}
	}
	// Only while it starts: everybody else is asked as before.
	if e := newSubject(t).exec(dir + "/daemon"); e != unix.EPERM {
		in.Close()
		counted := "it does not say"
		select {
		case counted = <-lines:
		case <-time.After(patience / 2):
		}
		t.Errorf("exec of the daemon's file by others: got %v, want %v; what the daemon counted: %s", e, unix.EPERM, counted)
	}
}

// endFamily kills a process and its children. Those that have not executed yet keep the
// group open.
func endFamily(pid int) {
	lists, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	var children []int
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, s := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(s); err == nil {
				children = append(children, child)
			}
		}
	}
	unix.Kill(pid, unix.SIGKILL)
	for _, child := range children {
		unix.Kill(child, unix.SIGKILL)
	}
}

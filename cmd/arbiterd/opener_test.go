// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// opens is what a process saw that opens a file again and again.
type opens struct {
	Errnos map[unix.Errno]int
	Worst  time.Duration // what one took
}

// openInLoop opens path again and again until stdin ends, and prints what it saw.
func openInLoop(path string) int {
	var end atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		end.Store(true)
	}()
	got := opens{Errnos: map[unix.Errno]int{}}
	fmt.Println("opening")
	for !end.Load() {
		start := time.Now()
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		got.Worst = max(got.Worst, time.Since(start))
		errno, _ := err.(unix.Errno)
		got.Errnos[errno]++
		if err == nil {
			unix.Close(fd)
		}
		if inGuest() {
			unix.Poll(nil, 2) // two emulated CPUs are for the daemons, too
		}
	}
	json.NewEncoder(os.Stdout).Encode(got)
	return 0
}

// opener is a process that opens a file in a loop.
type opener struct {
	t   *testing.T
	in  io.Closer
	out *bufio.Reader
}

func startOpener(t *testing.T, path string) *opener {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", path)
	cmd.Env = append(os.Environ(), roleEnv+"=opener")
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
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	o := &opener{t: t, in: in, out: bufio.NewReader(out)}
	o.line()
	return o
}

func (o *opener) line() string {
	o.t.Helper()
	got := make(chan string, 1)
	go func() {
		s, _ := o.out.ReadString('\n')
		got <- s
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(30 * time.Second):
		o.t.Fatal("the process that opens in a loop says nothing for 30 s")
		return ""
	}
}

// stop ends it and returns what it saw.
func (o *opener) stop() (got opens) {
	o.t.Helper()
	o.in.Close()
	if err := json.Unmarshal([]byte(o.line()), &got); err != nil {
		o.t.Fatal(err)
	}
	return got
}

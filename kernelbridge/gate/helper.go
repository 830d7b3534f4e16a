// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// helper is the process whose executable the gate is.
type helper struct {
	process *os.Process
	life    *os.File // the writing end of the pipe that it reads from
	ended   chan struct{}
	asked   uint64 // requests that the exec made; a test wants none
}

// startHelper executes the gate's file, open as fd, and returns when the process
// has settled down. Somebody must serve the file meanwhile, until deadline.
//
// While a Go program forks, the thread that does it keeps its processor until the
// child has executed, and a garbage collection that begins in between stops all
// others: nobody would serve. So the exec must not need a server. The kernel has
// been told that there is no OPEN and no FLUSH and that attributes last for ever, the
// mount does not ask for capabilities (nosuid), and the file's one page is locked
// into memory here. For the same reason the file is opened without os.Open, which
// asks the kernel for events of it (a FUSE POLL) in a system call that keeps the
// processor too. requests counts what the server has been asked.
func startHelper(fd int, size int, deadline time.Time, requests func() uint64) (_ *helper, err error) {
	path := "/proc/self/fd/" + strconv.Itoa(fd)
	file, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the helper's file: %w", err)
	}
	page, err := unix.Mmap(file, 0, size, unix.PROT_READ, unix.MAP_SHARED|unix.MAP_POPULATE)
	// Now, not later: the child would close its copy in the exec, with a FLUSH.
	unix.Close(file)
	if err != nil {
		return nil, fmt.Errorf("mapping the helper's file: %w", err)
	}
	defer unix.Munmap(page)
	_ = unix.Mlock(page) // without: it is mapped and young, which keeps it in memory as well

	lifeEnd, life, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the helper's pipe: %w", err)
	}
	defer lifeEnd.Close()
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		life.Close()
		return nil, fmt.Errorf("making the helper's pipe: %w", err)
	}
	defer ready.Close()
	before := requests()
	process, err := os.StartProcess(path, []string{helperName}, &os.ProcAttr{
		Dir: "/", Env: []string{}, Files: []*os.File{lifeEnd, readyEnd},
		// A session of its own: no terminal's signals.
		Sys: &syscall.SysProcAttr{Setsid: true},
	})
	readyEnd.Close()
	if err != nil {
		life.Close()
		return nil, fmt.Errorf("executing the helper: %w", err)
	}
	h := &helper{process: process, life: life, ended: make(chan struct{}), asked: requests() - before}
	go func() {
		defer close(h.ended)
		process.Wait()
	}()
	ready.SetReadDeadline(deadline)
	// It writes a byte and closes its end, or dies and writes nothing.
	if b, err := io.ReadAll(io.LimitReader(ready, 2)); err != nil || len(b) != 1 {
		h.stop()
		return nil, fmt.Errorf("waiting for the helper, which said %q: %w", b, errors.Join(err, errNotReady))
	}
	// Without it no task can be held. It is not worth an error: the daemon sees
	// the helper end, and opens another gate.
	_ = os.WriteFile("/proc/"+strconv.Itoa(process.Pid)+"/oom_score_adj", []byte("-1000"), 0)
	return h, nil
}

// stop ends the process and waits for it. It may be called more than once.
func (h *helper) stop() error {
	h.life.Close()
	// At once, also when it is stopped. By pidfd, or it was waited for already.
	if err := h.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the gate's helper: %w", err)
	}
	<-h.ended
	return nil
}

// StartTicks returns the start time of a process as proc(5) has it, in units of 10 ms.
func StartTicks(pid int) (uint64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The name is in parentheses and may have any character, so from the last one
	// on: field 3, and field 22 is the start time.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return 0, errors.New("reading the start time: /proc/PID/stat is too short")
	}
	if fields[0] == "Z" || fields[0] == "X" { // it has ended, and nobody has waited for it yet
		return 0, fmt.Errorf("reading the start time of process %d: %w", pid, unix.ESRCH)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

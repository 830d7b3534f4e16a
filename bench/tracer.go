// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strconv"

	"golang.org/x/sys/unix"
)

// TracerWord is the hidden command of the process that traces a requester.
const TracerWord = "tracer"

// Tracer is the process that lets the stops of a thread of another process go on: args are
// the thread's id, a CPU, and how it waits, "block" or "poll". It begins when in has said
// that it may, writes the errno of its attempt to out, 0 for success, and returns when the
// thread has ended. A process cannot trace a thread of its own.
func Tracer(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return errors.New("the tracer is started by a scenario itself")
	}
	tid, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("thread %q: %w", args[0], err)
	}
	cpu, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("CPU %q: %w", args[1], err)
	}
	debug.SetGCPercent(-1) // its thread holds its processor inside raw system calls
	if err := pinThread(cpu); err != nil {
		return err
	}
	if _, err := io.ReadFull(in, make([]byte, 1)); err != nil {
		return fmt.Errorf("waiting for the word to begin: %w", err)
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, unix.PTRACE_O_TRACESECCOMP, 0, 0)
	if _, err := fmt.Fprintln(out, int(errno)); err != nil {
		return fmt.Errorf("reporting to the scenario: %w", err)
	}
	if errno != 0 {
		return fmt.Errorf("tracing thread %d: %w", tid, errno)
	}
	return newTracer(tid, args[2] == "poll").run()
}

// tracer continues one traced thread.
type tracer struct {
	tid     int
	options int // of wait4
	status  unix.WaitStatus
}

func newTracer(tid int, poll bool) *tracer {
	t := &tracer{tid: tid, options: unix.WALL}
	if poll {
		t.options |= unix.WNOHANG
	}
	return t
}

// run returns when the thread has ended.
func (t *tracer) run() error {
	defer runtime.KeepAlive(t)
	for {
		pid, errno := rawWait(t.tid, &t.status, t.options)
		switch {
		case errno == unix.EINTR || errno == 0 && pid == 0:
			continue
		case errno == unix.ECHILD:
			return nil
		case errno != 0:
			return fmt.Errorf("waiting for thread %d: %w", t.tid, errno)
		case !t.status.Stopped():
			return nil
		}
		// A signal is handed on. A stop of the whole group is not kept up: nobody stops
		// the bench for anything but to look at it.
		signal := uintptr(t.status.StopSignal())
		if t.status>>16 != 0 {
			signal = 0 // an event: the filter's, or a stop of the group
		}
		_, _, errno = unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_CONT, uintptr(t.tid), 0, signal, 0, 0)
		if errno != 0 && errno != unix.ESRCH {
			return fmt.Errorf("continuing thread %d: %w", t.tid, errno)
		}
	}
}

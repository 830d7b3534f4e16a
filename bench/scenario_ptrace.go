// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// ptraceScenario calls getppid with a magic argument under a filter that stops the
// thread for its tracer, which lets it go on: what sandboxes and strace --seccomp-bpf
// do. Other calls of the thread do not stop.
type ptraceScenario struct {
	sameCPU bool
	poll    bool // the tracer looks for a stop without ever blocking
}

func (s ptraceScenario) Describe() Info {
	i := Info{ID: "ptrace-other", Mechanism: Ptrace, Responder: "other CPU, blocking wait", Baseline: getppidBaselineID, Lean: true}
	switch {
	case s.sameCPU:
		i.ID, i.Responder, i.SameCPU = "ptrace-same", "same CPU, blocking wait", true
	case s.poll:
		i.ID, i.Responder = "ptrace-other-poll", "other CPU, busy polling"
	}
	return i
}

func (s ptraceScenario) Open(at Place) (_ Session, err error) {
	sess := &ptraceSession{}
	defer func() {
		if err != nil {
			err = errors.Join(err, sess.endTracer())
		}
	}()
	sess.pair, err = openPair(at, func() (call, responder, error) {
		// Before the filter, which the tracer would inherit.
		if err := sess.startTracer(at.Responder, s.poll); err != nil {
			return call{}, nil, err
		}
		if err := traceFilter(); err != nil {
			return call{}, nil, err
		}
		return getppidCall(), nil, nil
	})
	if err != nil {
		return nil, err
	}
	return sess, nil
}

// ptraceSession is a pair whose responder is another process, which ends by itself when
// the requester's thread does. If it ends early the call fails, with ENOSYS.
type ptraceSession struct {
	*pair
	cmd *exec.Cmd
}

// Close ends the requester and its tracer.
func (s *ptraceSession) Close() error { return errors.Join(s.pair.Close(), s.endTracer()) }

// startTracer has the calling thread traced.
func (s *ptraceSession) startTracer(cpu int, poll bool) error {
	how := "block"
	if poll {
		how = "poll"
	}
	cmd := exec.Command("/proc/self/exe", TracerWord, strconv.Itoa(unix.Gettid()), strconv.Itoa(cpu), how)
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting the tracer: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting the tracer: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the tracer: %w", err)
	}
	s.cmd = cmd
	// Yama lets a descendant trace who has named it. EINVAL: there is no Yama.
	if err := unix.Prctl(unix.PR_SET_PTRACER, uintptr(cmd.Process.Pid), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("naming the tracer: %w", err)
	}
	if _, err := io.WriteString(in, "."); err != nil {
		return fmt.Errorf("telling the tracer to begin: %w", err)
	}
	var errno int
	if _, err := fmt.Fscan(out, &errno); err != nil {
		return fmt.Errorf("hearing from the tracer: %w", err)
	}
	if errno != 0 {
		return refused("tracing the requester", "run as root, with kernel.yama.ptrace_scope below 3 and outside of other tracers", unix.Errno(errno))
	}
	return nil
}

// endTracer kills the tracer: the requester's thread may be the first one of its process,
// which does not end alone.
func (s *ptraceSession) endTracer() error {
	if s.cmd == nil {
		return nil
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the tracer: %w", err)
	}
	s.cmd.Wait() // killed, or gone with the thread
	s.cmd = nil
	return nil
}

// traceFilter puts the calling thread under the filter.
func traceFilter() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("setting no_new_privs: %w", err)
	}
	filter := askFilter(unix.SECCOMP_RET_TRACE)
	_, errno := installFilter(filter, 0)
	runtime.KeepAlive(filter)
	if errno != 0 {
		return refused("installing a seccomp filter", "needs CONFIG_SECCOMP_FILTER, outside a sandbox that forbids seccomp(2)", errno)
	}
	return nil
}

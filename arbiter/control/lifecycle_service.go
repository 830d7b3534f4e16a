// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// Lifecycle is what the daemon does when another one takes over from it. The calls are
// made one after another, and Resume at any time between two of them.
type Lifecycle interface {
	// Greet lets the process go unasked, and its children.
	Greet(pid int) error
	// Freeze waits for a push that is under way, takes no more of them, and returns the
	// epoch in force, 0 for none.
	Freeze(ctx context.Context) (epoch uint64, err error)
	// Release lets go of the store and of the socket. Calls that are open stay open.
	Release() error
	// End makes the daemon end as after SIGTERM. It does not wait for that.
	End(pid int)
	// Resume is the way back, before End: everything is as before Greet.
	Resume()
}

// stepTimeout bounds how long a new daemon may take for one step: loading all programs
// takes a second, in an emulated machine twenty.
const stepTimeout = 2 * time.Minute

// lifecycleService serves one new daemon at a time.
type lifecycleService struct {
	controlv1.UnimplementedLifecycleServiceServer
	daemon   Lifecycle // nil: it cannot be replaced
	stopping <-chan struct{}
	busy     atomic.Bool
}

// steps in their order.
var steps = []controlv1.ReplaceStep{controlv1.ReplaceStep_REPLACE_STEP_HELLO, controlv1.ReplaceStep_REPLACE_STEP_FREEZE,
	controlv1.ReplaceStep_REPLACE_STEP_RELEASE, controlv1.ReplaceStep_REPLACE_STEP_END}

func (s *lifecycleService) Replace(stream grpc.BidiStreamingServer[controlv1.ReplaceRequest, controlv1.ReplaceResponse]) error {
	who, _ := callerOf(stream.Context())
	switch {
	case s.daemon == nil:
		return status.Error(codes.Unimplemented, "this daemon cannot be replaced while it runs: stop it, then start the other one")
	case who.uid != uint32(os.Geteuid()):
		return status.Errorf(codes.PermissionDenied, "uid %d may not replace a daemon of uid %d: start the new daemon as that user", who.uid, os.Geteuid())
	case who.pid <= 0:
		return status.Error(codes.FailedPrecondition, "the process id of the caller is not known here: start the new daemon in the same pid namespace")
	case !s.busy.CompareAndSwap(false, true):
		return status.Error(codes.Unavailable, "another daemon takes over already: wait for it")
	}
	defer s.busy.Store(false)
	for i, want := range steps {
		if err := s.await(stream, want); err != nil {
			if i > 0 {
				s.daemon.Resume()
			}
			return err
		}
		epoch, err := s.step(stream.Context(), want, int(who.pid))
		if err == nil {
			err = stream.Send(&controlv1.ReplaceResponse{Step: want, Pid: uint32(os.Getpid()), Epoch: epoch})
		} else {
			err = status.Error(codes.Aborted, utf8(err.Error()))
		}
		if err != nil && want != controlv1.ReplaceStep_REPLACE_STEP_END {
			s.daemon.Resume()
			return err
		}
	}
	return nil
}

// await returns when the caller asks for the step.
func (s *lifecycleService) await(stream grpc.BidiStreamingServer[controlv1.ReplaceRequest, controlv1.ReplaceResponse], want controlv1.ReplaceStep) error {
	type message struct {
		req *controlv1.ReplaceRequest
		err error
	}
	got := make(chan message, 1)
	go func() { // it ends with the stream
		req, err := stream.Recv()
		got <- message{req, err}
	}()
	timer := time.NewTimer(stepTimeout)
	defer timer.Stop()
	select {
	case m := <-got:
		switch {
		case errors.Is(m.err, io.EOF):
			return status.Errorf(codes.Canceled, "the new daemon has gone before %v: this one stays in charge", want)
		case m.err != nil:
			return m.err
		case m.req.GetStep() != want:
			return status.Errorf(codes.FailedPrecondition, "%v is not the next step, that is %v", m.req.GetStep(), want)
		}
		return nil
	case <-timer.C:
		return status.Errorf(codes.DeadlineExceeded, "%v does not come within %v: this daemon stays in charge", want, stepTimeout)
	case <-s.stopping:
		return status.Error(codes.Unavailable, "the daemon is stopping")
	}
}

func (s *lifecycleService) step(ctx context.Context, step controlv1.ReplaceStep, pid int) (epoch uint64, err error) {
	switch step {
	case controlv1.ReplaceStep_REPLACE_STEP_HELLO:
		err = s.daemon.Greet(pid)
	case controlv1.ReplaceStep_REPLACE_STEP_FREEZE:
		epoch, err = s.daemon.Freeze(ctx)
	case controlv1.ReplaceStep_REPLACE_STEP_RELEASE:
		err = s.daemon.Release()
	default:
		s.daemon.End(pid)
	}
	return epoch, err
}

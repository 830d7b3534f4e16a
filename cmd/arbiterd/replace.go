// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

const (
	// answerFor bounds the old daemon's answer to one step: a push that is under way may
	// take control.DefaultApplyTimeout.
	answerFor = 15 * time.Second
	// helloFor bounds the first one, for which nothing is to be done.
	helloFor = 5 * time.Second
	// goneFor is how long the end of a process whose connection has broken may take.
	goneFor = 2 * time.Second
	// endFor is above closeFor: then the old daemon is killed.
	endFor = 15 * time.Second
)

// predecessor is the daemon that this one takes over from.
type predecessor struct {
	pid    int
	pidfd  int
	conn   *grpc.ClientConn
	ctx    context.Context // of the stream
	cancel context.CancelFunc
	stream grpc.BidiStreamingClient[pb.ReplaceRequest, pb.ReplaceResponse] // nil before the first step
	gone   bool                                                            // it has ended before it could hand over
	log    *slog.Logger
}

// greet finds the daemon that serves the socket; nil when there is none. From its answer
// on it does not ask about this process.
func greet(ctx context.Context, socket string, log *slog.Logger) (_ *predecessor, err error) {
	p := &predecessor{pidfd: -1, log: log}
	defer func() {
		if err != nil {
			p.close()
			err = fmt.Errorf("taking over from the daemon on %s: %w", socket, err)
		}
	}()
	first, err := p.dial(ctx, socket)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	once := make(chan net.Conn, 1)
	once <- first
	p.conn, err = grpc.NewClient("passthrough:///arbiterd", grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("arbiterd"),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			select {
			case c := <-once:
				return c, nil
			default:
				return nil, errors.New("the connection has ended")
			}
		}))
	if err != nil {
		first.Close()
		return nil, err
	}
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.ctx = ctx
	_, err = p.step(pb.ReplaceStep_REPLACE_STEP_HELLO, helloFor)
	if status.Code(err) == codes.Unimplemented {
		err = fmt.Errorf("process %d cannot hand over (%w): it is of another version; it stays in charge; restart arbiterd as usual", p.pid, err)
	}
	return p, err
}

// dial connects and notes who listens.
func (p *predecessor) dial(ctx context.Context, socket string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, helloFor)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	raw, err := c.(*net.UnixConn).SyscallConn()
	var cred *unix.Ucred
	if err == nil {
		err = errors.Join(raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }), err)
	}
	if err == nil {
		p.pid = int(cred.Pid)
		p.pidfd, err = unix.PidfdOpen(p.pid, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		err = unix.ECONNREFUSED // it has ended this moment
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// step asks for a step and returns the answer; nil without an error when the old daemon
// has ended, and its place is free.
func (p *predecessor) step(step pb.ReplaceStep, bound time.Duration) (*pb.ReplaceResponse, error) {
	if p == nil || p.gone {
		return nil, nil
	}
	type answer struct {
		r   *pb.ReplaceResponse
		err error
	}
	got := make(chan answer, 1)
	go func() { // it ends with the stream
		r, err := p.ask(step)
		got <- answer{r, err}
	}()
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case a := <-got:
		if a.err == nil && a.r.GetStep() != step {
			a.err = fmt.Errorf("it answers %v to %v", a.r.GetStep(), step)
		}
		if a.err != nil && p.ended(goneFor) {
			p.log.Warn("the old daemon has ended by itself", slog.Int("pid", p.pid), slog.Any("error", a.err))
			p.gone = true
			return nil, nil
		}
		return a.r, a.err
	case <-timer.C:
		return nil, fmt.Errorf("process %d does not answer within %v: it stays in charge; if it hangs, kill it (kill -9 %d) and start arbiterd as usual", p.pid, bound, p.pid)
	}
}

func (p *predecessor) ask(step pb.ReplaceStep) (_ *pb.ReplaceResponse, err error) {
	if p.stream == nil {
		if p.stream, err = pb.NewLifecycleServiceClient(p.conn).Replace(p.ctx); err != nil {
			return nil, err
		}
	}
	_ = p.stream.Send(&pb.ReplaceRequest{Step: step}) // what it fails of is in Recv
	return p.stream.Recv()
}

// ended reports whether the process has ended, or does within the bound.
func (p *predecessor) ended(bound time.Duration) bool {
	for end := time.Now().Add(bound); ; {
		left := max(0, time.Until(end))
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
			return n > 0
		}
		if left == 0 {
			return false
		}
	}
}

// close ends the conversation: before the last step the old daemon stays in charge.
func (p *predecessor) close() {
	if p == nil {
		return
	}
	if p.cancel != nil {
		p.cancel()
	}
	if p.conn != nil {
		p.conn.Close() // it has nothing to say that we wait for
	}
	if p.pidfd >= 0 {
		unix.Close(p.pidfd)
	}
	p.pidfd = -1
}

// greetOld begins to take over, if a daemon serves the socket.
func (d *daemon) greetOld(ctx context.Context) (err error) {
	if d.old, err = greet(ctx, d.cfg.Socket, d.log); err != nil || d.old == nil {
		return err
	}
	// Of a watchdog that was the old daemon's.
	if os.Getenv("WATCHDOG_PID") == strconv.Itoa(d.old.pid) {
		return os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	}
	return nil
}

// askBeside puts the rules of the old daemon in force here, while it asks by them, too.
func (d *daemon) askBeside(ctx context.Context) error {
	if err := d.backend.exemptPeer(d.old.pid); err != nil {
		return err
	}
	r, err := d.old.step(pb.ReplaceStep_REPLACE_STEP_FREEZE, answerFor)
	if err != nil || r.GetEpoch() == 0 {
		return err
	}
	wrong := func(err error) error {
		return fmt.Errorf("putting the rules of epoch %d in force beside the old daemon, which stays in charge: %w", r.GetEpoch(), err)
	}
	meta, source, err := store.Read(d.cfg.StateDir, r.GetEpoch())
	if err != nil {
		return wrong(err)
	}
	if err := d.verifyStored(meta, source); err != nil {
		return wrong(err)
	}
	rs, err := rules.Load(meta.Name, source, rules.Options{Epoch: meta.Epoch, CgroupID: kernelbridge.CgroupID, Program: findProgram})
	if err != nil {
		return wrong(err)
	}
	rs, _ = rs.At(control.StoredMoment(meta))
	warnings, err := d.Apply(ctx, rs, cache.Start)
	if err != nil {
		return wrong(err)
	}
	d.logLimits(warnings)
	return nil
}

// releaseOld has the old daemon let go of socket and store.
func (d *daemon) releaseOld(context.Context) error {
	_, err := d.old.step(pb.ReplaceStep_REPLACE_STEP_RELEASE, answerFor)
	return err
}

// endOld has the old daemon answer what it holds and end, and waits for that: then
// nobody decides by older rules than ours any more. One that hangs now is killed: its
// hooks would give failure verdicts for as long as it lives.
func (d *daemon) endOld(context.Context) error {
	p := d.old
	if _, err := p.step(pb.ReplaceStep_REPLACE_STEP_END, helloFor); err != nil {
		d.log.Warn("the old daemon does not confirm that it ends", slog.Any("error", err))
	}
	if !p.gone && !p.ended(endFor) {
		d.log.Error("the old daemon does not end, killing it", slog.Int("pid", p.pid))
		if err := unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("killing the old daemon: %w", err)
		}
		if !p.ended(endFor) {
			d.log.Error("the old daemon does not die", slog.Int("pid", p.pid))
		}
		_ = d.bury(context.Background()) // what it left, which refuses everything
	}
	d.log.Info("took over", slog.Int("from", p.pid))
	p.close()
	return d.backend.exemptPeer(0)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// closedRules refuse the secret, and give every failure verdict an errno of its own.
func closedRules(dir string) string {
	return strings.Replace(ruleText(dir, "EACCES"), "default: allow\n", "default: allow\non_fail: {deny: EIO}\n", 1)
}

// successor is startDaemon with --replace.
func successor(t *testing.T, dir string, args ...string) *runs {
	t.Helper()
	return startDaemon(t, dir, append(args, "--replace")...)
}

// notInGuest is for what does not depend on the backend, and takes minutes on an emulated
// CPU.
func notInGuest(t *testing.T) {
	t.Helper()
	if inGuest() {
		t.Skip("runs only outside of the virtual machine: it is not about the kernel")
	}
}

// ended waits for the daemon's end by itself.
func (d *runs) ended() {
	d.t.Helper()
	d.stoppedOnce.Do(func() {
		select {
		case err := <-d.exited:
			if err != nil {
				d.t.Errorf("the daemon ended with %v\n%s", err, d.log)
			}
		case <-time.After(60 * time.Second):
			d.t.Fatalf("the daemon does not end\n%s", d.log)
		}
	})
}

// refusals checks what an opener got: never success.
func refusals(t *testing.T, o opens) {
	t.Helper()
	got := o.Errnos
	t.Attr("seen", fmt.Sprintf("opens of a file that a rule refuses: %v", got))
	if n := got[0]; n > 0 {
		t.Errorf("%d opens went through: %v", n, got)
	}
	for errno := range got {
		switch errno {
		case 0, unix.EACCES, unix.EIO, unix.EPERM: // fanotify says EPERM for all
		default:
			t.Errorf("an open got %v: %v", errno, got)
		}
	}
	if got[unix.EACCES]+got[unix.EPERM] == 0 {
		t.Errorf("no open was refused by the rule: %v", got)
	}
}

// scale is for what is done again and again: seldom where each one takes 20 s, on an emulated CPU.
func scale(natively, inGuestOnly int) int {
	if inGuest() {
		return inGuestOnly
	}
	return natively
}

// Three daemons, one after another, under load, with everything of theirs in the scope:
// store, socket and binaries. No open of what the rules refuse goes through.
func TestReplaceUnderLoad(t *testing.T) {
	dir := newTree(t)
	old := startDaemon(t, dir)
	old.push(strings.Replace(closedRules(dir), dir+"/tree\"]", dir+"\"]", 1))
	openers := []*opener{startOpener(t, old.tree+"/secret"), startOpener(t, old.tree+"/secret")}
	for range scale(2, 1) {
		next := successor(t, dir)
		old.ended()
		if s := next.status(); s.Epoch != 1 || s.Pid != uint32(next.cmd.Process.Pid) {
			t.Errorf("epoch %d, pid %d; want 1, %d", s.Epoch, s.Pid, next.cmd.Process.Pid)
		}
		if log := next.log.String(); !strings.Contains(log, "took over") {
			t.Errorf("the new daemon did not take over:\n%s", log)
		}
		old = next
	}
	for _, o := range openers {
		refusals(t, o.stop())
	}
	if got := old.push(ruleText(dir, "EACCES")).Epoch; got != 2 {
		t.Errorf("a push to the last daemon is epoch %d, want 2", got)
	}
	old.soon(0, "good")
	old.stop()
	if got := old.try("bad"); got != 0 {
		t.Errorf("after the stop: %v, want success", got)
	}
}

// What one daemon holds when another takes over is answered by it.
func TestReplaceAnswersWhatIsHeld(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	old := startDaemon(t, dir)
	old.push(closedRules(dir))
	events := old.watch()
	old.soon(unix.EPERM, "bad")
	old.await(events, "exec deny no-bad "+old.tree+"/bad")
	next := successor(t, dir)
	if _, err := events.Recv(); status.Code(err) != codes.Unavailable {
		for err == nil {
			_, err = events.Recv()
		}
		if status.Code(err) != codes.Unavailable {
			t.Errorf("the old daemon's events ended with %v, want UNAVAILABLE", err)
		}
	}
	old.ended()
	next.soon(unix.EPERM, "bad")
}

// With nobody to replace it is an ordinary start.
func TestReplaceNobody(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := successor(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.kill() // its socket stays
	d = successor(t, dir)
	if s := d.status(); s.Epoch != 1 {
		t.Errorf("epoch %d, want 1", s.Epoch)
	}
	d.soon(unix.EPERM, "bad")
}

// failedSuccessor runs a daemon that must not come up, and returns what it says.
func failedSuccessor(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd, log := daemonCommand(dir, append(args, "--replace")...)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("the new daemon ended with %v, want 1: %s", err, log)
	}
	return log.String()
}

// A daemon that is stopped stays in charge, and goes on when it is woken.
func TestReplaceStopped(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(closedRules(dir))
	d.freeze()
	said := failedSuccessor(t, dir)
	if !strings.Contains(said, "does not answer") || !strings.Contains(said, "kill -9 "+fmt.Sprint(d.cmd.Process.Pid)) {
		t.Errorf("it says %q; want that the old one does not answer, and what to do", said)
	}
	if err := d.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.soon(unix.EPERM, "bad")
	if got := d.push(ruleText(dir, "EACCES")).Epoch; got != 2 {
		t.Errorf("a push is epoch %d, want 2", got)
	}
}

// A new daemon that cannot keep the rules leaves the old one in charge.
func TestReplaceThatCannot(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(closedRules(dir))
	o := startOpener(t, d.tree+"/secret")
	if said := failedSuccessor(t, dir, "--state-dir", dir+"/elsewhere"); !strings.Contains(said, "stays in charge") {
		t.Errorf("it says %q; want that the old one stays in charge", said)
	}
	d.until("the old one goes on", func() bool { return strings.Contains(d.log.String(), "this one stays in charge") })
	refusals(t, o.stop())
	if got := d.push(ruleText(dir, "EIO")).Epoch; got != 2 {
		t.Errorf("a push is epoch %d, want 2", got)
	}
}

// A new daemon that goes away after any step leaves the old one in charge.
func TestReplaceAbandoned(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(closedRules(dir))
	o := startOpener(t, d.tree+"/secret")
	for steps := 1; steps <= 3; steps++ {
		cmd := exec.Command("/proc/self/exe", d.socket, fmt.Sprint(steps))
		cmd.Env = append(os.Environ(), roleEnv+"=fakenew")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%d steps: %v\n%s", steps, err, out)
		}
		d.until("the old one goes on", func() bool { return strings.Count(d.log.String(), "this one stays in charge") == steps })
		if s := d.status(); s.Epoch != uint64(steps) {
			t.Errorf("after %d steps: epoch %d, want %d", steps, s.Epoch, steps)
		}
		if got := d.push(closedRules(dir) + strings.Repeat("#\n", steps)).Epoch; got != uint64(steps+1) {
			t.Errorf("after %d steps: a push is epoch %d, want %d", steps, got, steps+1)
		}
	}
	refusals(t, o.stop())
	next := successor(t, dir)
	d.ended()
	if s := next.status(); s.Epoch != 4 {
		t.Errorf("epoch %d after it has taken over, want 4", s.Epoch)
	}
}

// fakeNew takes so many steps with the daemon on the socket, and ends.
func fakeNew(args []string) int {
	var steps int
	fmt.Sscan(args[1], &steps)
	p, err := greet(context.Background(), args[0], slog.Default())
	for step := 2; step <= steps && err == nil; step++ {
		_, err = p.step(pb.ReplaceStep(step), answerFor)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// kill -9 of the new daemon while it takes over, at many moments: the old one goes on, or
// it has been replaced already.
func TestReplaceKilled(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(closedRules(dir))
	began := time.Now()
	next := successor(t, dir)
	took := time.Since(began)
	d.ended()
	tries := scale(6, 3)
	for i := range tries {
		o := startOpener(t, next.tree+"/secret")
		cmd, _ := daemonCommand(dir, "--replace")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		unix.Poll(nil, int((took * time.Duration(i) / time.Duration(tries)).Milliseconds()))
		cmd.Process.Kill()
		cmd.Wait()
		if !next.staysInCharge(closedRules(dir) + strings.Repeat("#\n", i+1)) {
			t.Logf("try %d: it had been replaced already", i)
			next.ended()
			o.stop()
			next = startDaemon(t, dir)
			continue
		}
		refusals(t, o.stop())
		next.soon(unix.EPERM, "bad")
	}
}

// staysInCharge reports whether the daemon takes a push, and not, whether it ends.
func (d *runs) staysInCharge(text string) bool {
	d.t.Helper()
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		_, err := pb.NewRulesServiceClient(d.conn).Push(ctx, &pb.PushRequest{Source: []byte(text), Name: "test.yaml"}, grpc.WaitForReady(true))
		cancel()
		if err == nil {
			return true
		}
		select {
		case err := <-d.exited:
			d.exited <- err
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	d.t.Fatalf("the daemon neither takes a push nor ends\n%s", d.log)
	return false
}

// fakeOld serves the socket as a daemon that takes so many steps with a new one and then
// dies, or stops, or says that it cannot.
func fakeOld(args []string) int {
	socket, how := args[0], args[2]
	var steps int
	fmt.Sscan(args[1], &steps)
	l, err := net.Listen("unix", socket)
	if err != nil {
		panic(err)
	}
	s := grpc.NewServer()
	if how != "older" {
		pb.RegisterLifecycleServiceServer(s, &fakeLifecycle{steps: steps, how: how, socket: socket})
	}
	fmt.Println("listening")
	s.Serve(l)
	return 0
}

type fakeLifecycle struct {
	pb.UnimplementedLifecycleServiceServer
	steps  int
	how    string
	socket string
}

func (f *fakeLifecycle) Replace(s grpc.BidiStreamingServer[pb.ReplaceRequest, pb.ReplaceResponse]) error {
	for i := 0; ; i++ {
		req, err := s.Recv()
		if err != nil {
			return err
		}
		if i == f.steps {
			if f.how == "stop" {
				unix.Kill(os.Getpid(), unix.SIGSTOP)
				select {} // some instructions more
			}
			os.Exit(0)
		}
		if req.GetStep() == pb.ReplaceStep_REPLACE_STEP_RELEASE {
			os.Remove(f.socket)
		}
		if err := s.Send(&pb.ReplaceResponse{Step: req.GetStep(), Epoch: 1}); err != nil {
			return err
		}
	}
}

// The old daemon dies, stops or fails in the midst of the exchange.
func TestReplaceOfOneThatFails(t *testing.T) {
	notInGuest(t)
	for _, tc := range []struct {
		how   string
		steps int
		says  string // "": the new one comes up
	}{
		{"die", 0, ""}, {"die", 1, ""}, {"die", 2, ""}, {"die", 3, ""},
		{"stop", 1, "does not answer"}, {"stop", 3, ""},
		{"older", 0, "restart arbiterd as usual"},
	} {
		t.Run(fmt.Sprintf("%s after %d", tc.how, tc.steps), func(t *testing.T) {
			t.Parallel() // most of it is waiting
			dir := newTree(t)
			d := startDaemon(t, dir)
			d.push(ruleText(dir, "EACCES"))
			d.stop()
			cmd := exec.Command("/proc/self/exe", dir+"/s", fmt.Sprint(tc.steps), tc.how)
			cmd.Env = append(os.Environ(), roleEnv+"=fakeold")
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
			if _, err := out.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			if tc.says != "" {
				if said := failedSuccessor(t, dir); !strings.Contains(said, tc.says) {
					t.Errorf("it says %q, want something about %q", said, tc.says)
				}
				return
			}
			d = successor(t, dir)
			if s := d.status(); s.Epoch != 1 {
				t.Errorf("epoch %d, want 1", s.Epoch)
			}
			d.soon(unix.EPERM, "bad")
			d.stop()
		})
	}
}

// SIGUSR2 starts the program that is installed now, which takes over; the service manager
// learns of its process.
func TestUpgrade(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: on fanotify the new daemon is started by hand")
	}
	dir := newTree(t)
	notify := listenNotify(t)
	d := startDaemonTold(t, dir, notify)
	d.push(closedRules(dir))
	o := startOpener(t, d.tree+"/secret")
	if err := d.cmd.Process.Signal(unix.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	awaitNotify(t, notify, "MAINPID=", d)
	// Not d.exited: its successor has the same stderr.
	d.until("the old daemon's end", func() bool { return unix.Kill(d.cmd.Process.Pid, 0) == unix.ESRCH })
	awaitNotify(t, notify, "READY=1", d)
	refusals(t, o.stop())
	s := d.status()
	t.Cleanup(func() { unix.Kill(int(s.Pid), unix.SIGKILL) })
	if int(s.Pid) == d.cmd.Process.Pid || s.Epoch != 1 {
		t.Errorf("pid %d, epoch %d; want another one than %d, and 1", s.Pid, s.Epoch, d.cmd.Process.Pid)
	}
	d.soon(unix.EPERM, "bad")
}

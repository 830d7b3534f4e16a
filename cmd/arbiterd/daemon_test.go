// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/arbiterd/arbiter/arbiter/compiler"
	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
)

// roleEnv makes the test binary the daemon, or a program that the daemon rules over.
const roleEnv = "ARBITER_TEST_ROLE"

func TestMain(m *testing.M) {
	guard.Main()
	compiler.Main()
	switch os.Getenv(roleEnv) {
	case "daemon":
		os.Exit(run(os.Args[1:]))
	case "subject":
		os.Exit(subject(os.Args[1:]))
	case "starter":
		os.Exit(runAnother(os.Args[1:]))
	case "asker":
		os.Exit(ask(os.Args[1]))
	case "opener":
		os.Exit(openInLoop(os.Args[1]))
	case "overlayer":
		os.Exit(openInOverlay(os.Args[1]))
	case "confined":
		os.Exit(confined(os.Args))
	case "fakenew":
		os.Exit(fakeNew(os.Args[1:]))
	case "fakeold":
		os.Exit(fakeOld(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// subject opens the file that it is given, if any, and exits with the errno. It keeps
// to CPU 0, where no worker is pinned while the machine has two.
func subject(args []string) int {
	var set unix.CPUSet
	set.Set(0)
	_ = unix.SchedSetaffinity(0, &set)
	if len(args) == 0 {
		return 0
	}
	_, err := os.ReadFile(args[0])
	var errno unix.Errno
	if errors.As(err, &errno) {
		return int(errno)
	}
	return 0
}

// runs is a daemon process with a tree to rule over.
type runs struct {
	t           *testing.T
	cmd         *exec.Cmd
	dir, tree   string
	socket      string
	backend     string // which one serves
	log         *lockedBuffer
	conn        *grpc.ClientConn
	exited      chan error
	stoppedOnce sync.Once
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// inGuest reports whether this is the virtual machine, where BPF LSM must work.
func inGuest() bool { return os.Getenv("ARBITER_VM") != "" }

// newTree makes a tree with a program, a secret and a plain file, in a directory that
// anybody can reach.
func newTree(t *testing.T) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN, CAP_BPF): the daemon holds real system calls")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]struct {
		text []byte
		mode os.FileMode
	}{"tree/good": {self, 0o755}, "tree/bad": {self, 0o755}, "tree/secret": {[]byte("x"), 0o644}, "tree/plain": {[]byte("x"), 0o644}, "tree/watched": {[]byte("x"), 0o644}} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.text, f.mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// daemonCommand is a daemon in dir that has not been started.
func daemonCommand(dir string, args ...string) (*exec.Cmd, *lockedBuffer) {
	self, err := os.Executable()
	if err != nil {
		panic(err)
	}
	base := []string{"--config", "/dev/null", "--socket", dir + "/s", "--state-dir", dir + "/state"}
	if inGuest() {
		base = append(base, "--wait", kernelbridge.MaxWait.String()) // an emulated CPU is away for long
	} else {
		base = append(base, "--backend", kernelbridge.BackendFanotify) // the hooks of the host are not ours
	}
	cmd := exec.Command(self, append(base, args...)...)
	cmd.Env = append(os.Environ(), roleEnv+"=daemon")
	log := &lockedBuffer{}
	cmd.Stderr = log
	return cmd, log
}

// startDaemon starts a daemon and returns when it says that it is ready.
func startDaemon(t *testing.T, dir string, args ...string) *runs {
	t.Helper()
	return startDaemonTold(t, dir, listenNotify(t), args...)
}

// startDaemonTold is startDaemon with a service manager of the caller's.
func startDaemonTold(t *testing.T, dir string, notify *net.UnixConn, args ...string) *runs {
	t.Helper()
	cmd, log := daemonCommand(dir, args...)
	return startCommand(t, cmd, log, dir, notify)
}

// startCommand starts a daemon of daemonCommand.
func startCommand(t *testing.T, cmd *exec.Cmd, log *lockedBuffer, dir string, notify *net.UnixConn) *runs {
	t.Helper()
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &runs{t: t, cmd: cmd, dir: dir, tree: dir + "/tree", socket: dir + "/s", log: log, exited: make(chan error, 1)}
	go func() { d.exited <- cmd.Wait() }()
	t.Cleanup(d.kill)
	awaitNotify(t, notify, "READY=1", d)
	conn, err := dialDaemon(d.socket)
	if err != nil {
		t.Fatal(err)
	}
	d.conn = conn
	t.Cleanup(func() { conn.Close() })
	d.backend = d.status().Backend
	return d
}

func dialDaemon(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// listenNotify is the service manager's side of sd_notify(3).
func listenNotify(t *testing.T) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// awaitNotify returns when the daemon has sent the message.
func awaitNotify(t *testing.T, c *net.UnixConn, want string, d *runs) {
	t.Helper()
	b := make([]byte, 4096)
	for {
		// In a guest beside another one that is as busy a start under load was seen to take 60 s.
		patience := time.Duration(scale(60, 180)) * time.Second
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		var n int
		go func() {
			var err error
			n, err = c.Read(b)
			got <- err
		}()
		select {
		case err := <-got:
			if err != nil {
				t.Fatalf("waiting for %s: %v\n%s", want, err, d.log)
			}
		case err := <-d.exited:
			d.exited <- err
			t.Fatalf("the daemon ended instead of saying %s: %v\n%s", want, err, d.log)
		}
		if strings.Contains(string(b[:n]), want) {
			return
		}
	}
}

// kill ends the daemon without ceremony.
func (d *runs) kill() {
	d.stoppedOnce.Do(func() {
		d.cmd.Process.Kill()
		<-d.exited
	})
}

// stop ends the daemon as a service manager does and checks that it ends well.
func (d *runs) stop() {
	d.t.Helper()
	d.stoppedOnce.Do(func() {
		d.cmd.Process.Signal(unix.SIGTERM)
		select {
		case err := <-d.exited:
			if err != nil {
				d.t.Errorf("the daemon ended with %v\n%s", err, d.log)
			}
		case <-time.After(30 * time.Second):
			d.t.Errorf("the daemon does not stop\n%s", d.log)
			d.cmd.Process.Kill()
			<-d.exited
		}
	})
}

// ruleText is a rule file for the tree in dir.
func ruleText(dir, secretErrno string) string {
	return fmt.Sprintf(`version: 1
default: allow
scope: {paths: [%q]}
rules:
  - id: no-bad
    events: [exec]
    object: {path: %q}
    verdict: deny
  - id: no-secrets
    events: [open]
    object: {path: %q}
    verdict: {deny: %s}
    message: ask ops
  - id: watch
    events: [open]
    object: {path: %q}
    verdict: audit
`, dir+"/tree", dir+"/tree/bad", dir+"/tree/secret", secretErrno, dir+"/tree/watched")
}

func (d *runs) push(text string) *pb.PushResponse {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := pb.NewRulesServiceClient(d.conn).Push(ctx, &pb.PushRequest{Source: []byte(text), Name: "test.yaml"})
	if err != nil {
		d.t.Fatalf("pushing: %v\n%s", err, d.log)
	}
	return r
}

func (d *runs) status() *pb.StatusServiceGetResponse {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := pb.NewStatusServiceClient(d.conn).Get(ctx, &pb.StatusServiceGetRequest{})
	if err != nil {
		d.t.Fatalf("asking for the status: %v\n%s", err, d.log)
	}
	return r
}

// try runs a program of the tree and returns the errno that it, or its exec, got.
func (d *runs) try(program string, args ...string) unix.Errno {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(d.tree, program), args...)
	cmd.Env = append(os.Environ(), roleEnv+"=subject")
	err := cmd.Run()
	var errno unix.Errno
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return unix.Errno(exit.ExitCode())
	case errors.As(err, &errno):
		return errno
	}
	d.t.Fatalf("running %s: %v", program, err)
	return 0
}

// soon retries what a failure verdict may have let through once: under emulation, and
// on a machine that others use, a wait can reach its bound.
func (d *runs) soon(want unix.Errno, program string, args ...string) {
	d.t.Helper()
	var got unix.Errno
	for range 5 {
		if got = d.try(program, args...); got == want {
			d.t.Attr("seen", d.saw(got, program, args...))
			return
		}
	}
	d.t.Errorf("%s %v: %v, want %v; %v\n%s", program, args, got, want, d.status().KernelCounters, d.log)
}

// saw is an outcome in a sentence: what make vm prints as it sees it happen.
func (d *runs) saw(got unix.Errno, program string, args ...string) string {
	what := "exec of " + program
	if len(args) > 0 {
		what = "open of " + filepath.Base(args[0])
	}
	if got == 0 {
		return fmt.Sprintf("%s: %s allowed", d.backend, what)
	}
	return fmt.Sprintf("%s: %s refused: %v", d.backend, what, got)
}

// The whole way: real programs, allowed and refused by rules pushed over gRPC, on
// whichever backend this kernel has.
func TestEndToEnd(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--audit-log", dir+"/audit.jsonl")
	want := kernelbridge.BackendFanotify
	refused := unix.EPERM // all that fanotify can say
	if inGuest() {
		want, refused = kernelbridge.BackendLSM, unix.ENOENT
	}
	if s := d.status(); d.backend != want || s.BackendReason == "" || s.Epoch != 0 {
		t.Fatalf("backend %q because %q, epoch %d; want %s, a reason, 0", d.backend, s.BackendReason, s.Epoch, want)
	}
	// Without rules nothing is held.
	if got := d.try("bad"); got != 0 {
		t.Errorf("exec without rules: %v", got)
	}
	if got := d.push(ruleText(dir, "ENOENT")); got.Epoch != 1 {
		t.Errorf("first push is epoch %d, want 1", got.Epoch)
	}
	events := d.watch()
	d.soon(0, "good")
	d.soon(unix.EPERM, "bad")
	d.soon(refused, "good", d.tree+"/secret")
	d.soon(0, "good", d.tree+"/plain")
	d.soon(0, "good", d.tree+"/watched")
	for _, want := range []string{"exec deny no-bad " + d.tree + "/bad", "open deny no-secrets " + d.tree + "/secret", "open audit watch " + d.tree + "/watched"} {
		d.await(events, want)
	}
	// An allowed exec, refused when the rules say so a moment later.
	text := strings.Replace(ruleText(dir, "ENOENT"), "/tree/bad", "/tree/good", 1)
	d.push(text)
	d.soon(unix.EPERM, "good")
	d.soon(0, "bad")

	// It survives a restart, and the log has the refusals.
	d.stop()
	log, err := os.ReadFile(dir + "/audit.jsonl")
	if err != nil || !strings.Contains(string(log), `"no-secrets"`) {
		t.Errorf("the verdict log lacks the refusal: %v %s", err, log)
	}
	if got := d.try("good"); got != 0 {
		t.Errorf("without the daemon: %v, want success: nothing stays behind", got)
	}
	d = startDaemon(t, dir)
	if s := d.status(); s.Epoch != 2 || s.RuleCount != 3 {
		t.Errorf("after a restart epoch %d with %d rules, want 2 with 3", s.Epoch, s.RuleCount)
	}
	d.soon(unix.EPERM, "good")
	d.stop()
}

// watch opens the event stream.
func (d *runs) watch() pb.EventsService_WatchClient {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	d.t.Cleanup(cancel)
	w, err := pb.NewEventsServiceClient(d.conn).Watch(ctx, &pb.WatchRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil { // the hello: from here on nothing is missed
		d.t.Fatal(err)
	}
	return w
}

// await reads events until one is the wanted one, and returns it.
func (d *runs) await(w pb.EventsService_WatchClient, want string) *pb.Event {
	d.t.Helper()
	return d.awaitThat(w, want, func(e *pb.Event) bool { return describe(e) == want })
}

// awaitExec is await for the next exec of a path, however it was decided.
func (d *runs) awaitExec(w pb.EventsService_WatchClient, path string) *pb.Event {
	d.t.Helper()
	return d.awaitThat(w, "exec of "+path, func(e *pb.Event) bool {
		return e.GetEvent() == "exec" && string(e.GetObject().GetPath()) == path
	})
}

func (d *runs) awaitThat(w pb.EventsService_WatchClient, what string, wanted func(*pb.Event) bool) *pb.Event {
	d.t.Helper()
	var others []string
	for {
		m, err := w.Recv()
		if err != nil {
			d.t.Fatalf("waiting for the event %q: %v; others came: %q", what, err, others)
		}
		e := m.GetEvent()
		if e == nil {
			continue
		}
		if wanted(e) {
			return e
		}
		others = append(others, describe(e)+" "+e.GetReason())
	}
}

// describe is an event in one line: event, verdict, rule and path.
func describe(e *pb.Event) string {
	return strings.Join([]string{e.GetEvent(), e.GetVerdict(), e.GetRule(), string(e.GetObject().GetPath())}, " ")
}

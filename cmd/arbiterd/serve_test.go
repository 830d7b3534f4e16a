// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// slowApplier puts a set in force when it is let go on.
type slowApplier struct {
	engine
	applying chan string // reason labels, one for each Apply
	goOn     chan struct{}
}

func (s slowApplier) Apply(_ context.Context, rs *rules.RuleSet, _ cache.Reason) ([]string, error) {
	s.applying <- rs.RuleID(0)
	<-s.goOn
	return nil, nil
}

// notifyLog is the service manager's view: every state in its order.
func notifyLog(t *testing.T) <-chan string {
	t.Helper()
	c := listenNotify(t)
	t.Setenv("NOTIFY_SOCKET", c.LocalAddr().String())
	states := make(chan string, 8)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return // closed by the test's end
			}
			states <- string(b[:n])
		}
	}()
	return states
}

func next[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not come within 30 s", what)
		panic("BUG: Fatalf returned")
	}
}

func wantState(t *testing.T, states <-chan string, want string) {
	t.Helper()
	if got := next(t, want, states); got != want {
		t.Fatalf("the service manager was told %q, want %q", got, want)
	}
}

// servingDaemon is a daemon without a kernel side whose rule file is pushed as slowly
// as the test wants.
func servingDaemon(t *testing.T, text string) (d *daemon, a slowApplier, s signals, stop func(), ended <-chan error) {
	t.Helper()
	st, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	a = slowApplier{applying: make(chan string, 8), goOn: make(chan struct{})}
	d = &daemon{cfg: config{Rules: writeConfig(t, text)}, log: slog.New(slog.DiscardHandler), serving: make(chan error)}
	if d.rules, err = control.NewRules(control.RulesConfig{Engine: a, Applier: a, Store: st}); err != nil {
		t.Fatal(err)
	}
	d.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(), Workers: []arbiter.Worker{{Source: idleSource{wake: make(chan struct{}, 1)}, CPU: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.engine.Close() })
	s = signals{hangups: make(chan os.Signal, 1)}
	s.stop, stop = context.WithCancel(t.Context())
	t.Cleanup(stop)
	end := make(chan error, 1)
	go func() { end <- d.serve(s) }()
	return d, a, s, stop, end
}

const oneRule = "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules: [{id: one, events: [exec], verdict: deny}]\n"

// A reload has a goroutine: during one the service manager hears that the daemon is
// alive, and the daemon stops at once.
func TestStopDuringReload(t *testing.T) {
	states := notifyLog(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	_, a, s, stop, ended := servingDaemon(t, oneRule)
	defer close(a.goOn)
	wantState(t, states, "READY=1")
	s.hangups <- unix.SIGHUP
	for next(t, "RELOADING=1", states) != "RELOADING=1" {
	}
	next(t, "the push of the reload", a.applying)
	for range cap(states) + 2 { // more than can have been told before
		wantState(t, states, "WATCHDOG=1")
	}
	stop()
	if err := next(t, "the end of serve", ended); err != nil {
		t.Errorf("serve: %v, want no error", err)
	}
}

// One more SIGHUP is kept for after a reload.
func TestHangupDuringReload(t *testing.T) {
	states := notifyLog(t)
	_, a, s, stop, ended := servingDaemon(t, oneRule)
	wantState(t, states, "READY=1")
	s.hangups <- unix.SIGHUP
	wantState(t, states, "RELOADING=1")
	next(t, "the push of the reload", a.applying)
	s.hangups <- unix.SIGHUP // kept
	select {
	case s.hangups <- unix.SIGHUP:
		t.Error("a second SIGHUP was taken during a reload")
	default: // as package signal does
	}
	close(a.goOn)
	for _, want := range []string{"READY=1", "RELOADING=1", "READY=1"} {
		wantState(t, states, want)
	}
	stop()
	next(t, "the end of serve", ended)
	if len(states) != 0 {
		t.Errorf("more than one reload after the first: %q", <-states)
	}
}

// idleSource has no requests.
type idleSource struct {
	arbiter.Source
	wake chan struct{}
}

func (idleSource) Next(*abi.Request) bool { return false }
func (s idleSource) Park(d time.Duration) {
	select {
	case <-s.wake:
	case <-time.After(d):
	}
}
func (s idleSource) Hold(*abi.Request) bool { return true }
func (s idleSource) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func TestPetWatchdog(t *testing.T) {
	for _, tc := range []struct {
		name  string
		check func(context.Context) error
		want  []string
	}{
		{"all workers get on", func(context.Context) error { return nil }, []string{"WATCHDOG=1"}},
		{"one is stuck", func(ctx context.Context) error {
			if _, ok := ctx.Deadline(); !ok {
				t.Error("the check has no time limit")
			}
			return arbiter.ErrStalled
		}, nil},
	} {
		var told []string
		log := &lockedBuffer{}
		petWatchdog(tc.check, slog.New(slog.NewTextHandler(log, nil)), func(s string) { told = append(told, s) })
		if !slices.Equal(told, tc.want) {
			t.Errorf("%s: told %q, want %q", tc.name, told, tc.want)
		}
		if logged := strings.Contains(log.String(), "watchdog"); logged != (tc.want == nil) {
			t.Errorf("%s: the log is %q", tc.name, log)
		}
	}
}

// The daemon's life as the service manager sees it.
func TestNotify(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	notify := listenNotify(t)
	cmd, log := daemonCommand(dir)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+notify.LocalAddr().String(), "WATCHDOG_USEC=200000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d := &runs{t: t, cmd: cmd, dir: dir, log: log, exited: make(chan error, 1)}
	go func() { d.exited <- cmd.Wait() }()
	t.Cleanup(d.kill)
	awaitNotify(t, notify, "READY=1", d)
	awaitNotify(t, notify, "WATCHDOG=1", d)
	cmd.Process.Signal(unix.SIGHUP)
	awaitNotify(t, notify, "RELOADING=1", d)
	awaitNotify(t, notify, "READY=1", d)
	awaitNotify(t, notify, "WATCHDOG=1", d)
	cmd.Process.Signal(unix.SIGTERM)
	awaitNotify(t, notify, "STOPPING=1", d)
	d.stop()
}

// A pipe as rule file neither keeps the daemon from reloading again nor from stopping.
func TestReloadOfPipe(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	file := dir + "/rules.yaml"
	if err := os.WriteFile(file, []byte(ruleText(dir, "EACCES")), 0o644); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "--rules", file)
	if err := errors.Join(os.Remove(file), unix.Mkfifo(file, 0o644)); err != nil {
		t.Fatal(err)
	}
	d.cmd.Process.Signal(unix.SIGHUP)
	d.until("the refusal of the pipe", func() bool { return strings.Contains(d.log.String(), "no regular file") })
	start := time.Now()
	d.stop()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

func TestReadRuleFile(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int64{"fits": 1000, "large": 1001} {
		f, err := os.Create(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(dir+"/pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ path, want string }{
		{dir + "/fits", ""}, {dir + "/large", "1000 bytes"}, {dir + "/pipe", "no regular file"},
		{dir, "no regular file"}, {"/dev/zero", "no regular file"}, {dir + "/none", "no such file"},
	} {
		_, err := readRuleFile(tc.path, 1000)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", tc.path, err, tc.want)
		}
	}
}

// A stop during the start ends well and leaves nothing behind.
func TestStopDuringStart(t *testing.T) {
	dir := newTree(t)
	cfg := defaults()
	cfg.Socket, cfg.StateDir = dir+"/s", dir+"/state"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := start(ctx, cfg, slog.New(slog.DiscardHandler)); !errors.Is(err, context.Canceled) {
		t.Errorf("start after a stop: %v, want context.Canceled", err)
	}

	cmd, log := daemonCommand(dir)
	err := cmd.Start()
	if err != nil {
		t.Fatal(err)
	}
	d := &runs{t: t, cmd: cmd, dir: dir, log: log, exited: make(chan error, 1)}
	go func() { d.exited <- cmd.Wait() }()
	t.Cleanup(d.kill)
	d.until("the socket", func() bool { _, err := os.Lstat(dir + "/s"); return err == nil })
	cmd.Process.Signal(unix.SIGHUP) // kept for after the start
	cmd.Process.Signal(unix.SIGTERM)
	select {
	case err = <-d.exited:
		d.stoppedOnce.Do(func() {})
	case <-time.After(30 * time.Second):
		t.Fatalf("the daemon does not stop during the start\n%s", log)
	}
	if inGuest() && err != nil && strings.Contains(log.String(), "the start does not end within") {
		t.Logf("loading programs takes longer here than a stop waits: %s", log)
		return // which has its bound all the same
	}
	if err != nil {
		t.Errorf("the daemon ended with %v\n%s", err, log)
	}
	if _, err := os.Lstat(dir + "/s"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket after a stop during the start: %v, want none", err)
	}
}

func TestPipeAsFirstRuleFile(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	pipe := dir + "/rules.yaml"
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, log := daemonCommand(dir, "--rules", pipe)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(log.String(), "no regular file") {
		t.Errorf("a pipe as first rule file: %v, %q; want exit 1 and why", err, log)
	}
}

// stuckSource has a worker that does not come back from it before the end of the test.
type stuckSource struct {
	arbiter.Source
	taken chan struct{}
	end   <-chan struct{}
}

func (s stuckSource) Next(*abi.Request) bool {
	select {
	case s.taken <- struct{}{}:
	default:
	}
	<-s.end
	return false
}
func (stuckSource) Park(time.Duration)     {}
func (stuckSource) Hold(*abi.Request) bool { return true }
func (stuckSource) Wake()                  {}

// fakeBackend is a kernel side that takes everything.
type fakeBackend struct{ warns []string }

func (fakeBackend) sources() []arbiter.Source                            { return nil }
func (fakeBackend) wait() time.Duration                                  { return time.Second }
func (fakeBackend) waits(abi.Event) string                               { return "" }
func (fakeBackend) check(*rules.RuleSet) ([]string, error)               { return nil, nil }
func (b fakeBackend) warnings() []string                                 { return b.warns }
func (fakeBackend) protect(*kernelbridge.Protection) error               { return nil }
func (fakeBackend) problems() []string                                   { return nil }
func (fakeBackend) moved(*rules.RuleSet) bool                            { return false }
func (fakeBackend) configure(policy) error                               { return nil }
func (fakeBackend) marked(rs *rules.RuleSet) (*rules.RuleSet, error)     { return rs, nil }
func (fakeBackend) telling(rs, _ *rules.RuleSet) (*rules.RuleSet, error) { return rs, nil }
func (fakeBackend) mutes() []control.DefaultMute                         { return nil }
func (fakeBackend) watch(bool)                                           {}
func (fakeBackend) bury() (int, error)                                   { return 0, nil }
func (fakeBackend) exemptPeer(int) error                                 { return nil }
func (fakeBackend) execSelf(start func() error) error                    { return start() }
func (fakeBackend) drain(context.Context) error                          { return nil }
func (fakeBackend) counters() map[string]uint64                          { return nil }
func (fakeBackend) close() error                                         { return nil }

func (fakeBackend) Unavailable(asked []abi.Event) map[abi.Event]string {
	return new(fanotifyBackend).Unavailable(asked) // needs nothing of it
}

// A set that waits for a stuck worker does not keep the daemon from stopping.
func TestStopDuringStalledPush(t *testing.T) {
	end := make(chan struct{})
	source := stuckSource{taken: make(chan struct{}, 1), end: end}
	d := &daemon{log: slog.New(slog.DiscardHandler), backend: fakeBackend{}}
	d.hurry, d.abort = context.WithCancel(t.Context())
	var err error
	if d.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(), Workers: []arbiter.Worker{{Source: source, CPU: -1}}}); err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Start(); err != nil {
		t.Fatal(err)
	}
	defer d.engine.Close()
	defer close(end)
	next(t, "the worker's first look", source.taken)
	rs, err := rules.Load("r", []byte(oneRule), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	applied := make(chan error, 1)
	go func() {
		_, err := d.Apply(context.Background(), rs, cache.RulesPushed)
		applied <- err
	}()
	select {
	case err := <-applied:
		t.Fatalf("the set does not wait for the stuck worker: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	d.abort()
	if err := next(t, "the end of the push", applied); !errors.Is(err, arbiter.ErrStalled) {
		t.Errorf("the push: %v, want ErrStalled", err)
	}
	if got := d.engine.Rules().Epoch(); got != 0 {
		t.Errorf("epoch %d is in force, want 0", got)
	}
	if _, err := d.Apply(t.Context(), rs, cache.RulesPushed); err == nil {
		t.Error("a set is put in force while the daemon stops")
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		os.Exit(runChild(name))
	}
	goleak.VerifyTestMain(m)
}

// testTimeout bounds what should take milliseconds.
const testTimeout = 30 * time.Second

// ruleFile returns a rule file with one rule per id, each refusing an exec.
func ruleFile(ids ...string) string {
	var b strings.Builder
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n")
	for _, id := range ids {
		fmt.Fprintf(&b, "  - id: %s\n    events: [exec]\n    object: {path: /t/%s}\n    verdict: deny\n", id, id)
	}
	return b.String()
}

// ruleSet compiles a rule file; epoch 0 is the daemon's own.
func ruleSet(t *testing.T, text string, epoch uint64) *rules.RuleSet {
	t.Helper()
	rs, err := rules.Load("a.yaml", []byte(text), rules.Options{Epoch: epoch, CgroupID: boxIDs})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// fakeSource has the requests of fixture.ask.
type fakeSource struct {
	wake    chan struct{} // buffer of one
	asked   chan *abi.Request
	answers chan abi.Verdict // buffer of one
}

func newFakeSource() fakeSource {
	return fakeSource{make(chan struct{}, 1), make(chan *abi.Request, 1), make(chan abi.Verdict, 1)}
}

func (s fakeSource) Next(r *abi.Request) bool {
	select {
	case asked := <-s.asked:
		*r = *asked
		return true
	default:
		return false
	}
}

func (s fakeSource) Reply(_ *abi.Request, v abi.Verdict) bool {
	s.answers <- v
	return true
}

func (s fakeSource) Park(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
}
func (s fakeSource) Hold(*abi.Request) bool { return true }
func (s fakeSource) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// fakeApplier installs in the engine and fails on demand.
type fakeApplier struct {
	engine *arbiter.Arbiter

	mu       sync.Mutex
	checkErr error
	failures []error               // of the next calls of Apply, nil for success
	failLate bool                  // Apply fails after it has installed, and does not go back
	warnings []string              // of Check
	during   func(*rules.RuleSet)  // called within Check
	applying func(context.Context) // called within Apply
	cannot   map[abi.Event]string  // of Unavailable
	moved    bool
	applied  []uint64       // epochs
	reasons  []cache.Reason // of Apply

	collectErr error
	canaryErrs []error          // of the next calls of Canary, nil for success
	collected  []*rules.RuleSet // the arguments of Collect
}

func (a *fakeApplier) Check(_ context.Context, rs *rules.RuleSet) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.during != nil {
		a.during(rs)
	}
	return a.warnings, a.checkErr
}

func (a *fakeApplier) Apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) ([]string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.applying != nil {
		a.applying(ctx)
	}
	var err error
	if len(a.failures) > 0 {
		err, a.failures = a.failures[0], a.failures[1:]
	}
	if err != nil && !a.failLate {
		return nil, err
	}
	a.applied, a.reasons = append(a.applied, rs.Epoch()), append(a.reasons, reason)
	if ierr := a.engine.Install(ctx, rs, reason); ierr != nil {
		return nil, ierr
	}
	return nil, err
}

func (a *fakeApplier) Collect(also *rules.RuleSet) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.collected = append(a.collected, also)
	return a.collectErr
}

func (a *fakeApplier) Canary(ctx context.Context, c *arbiter.Canary) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if len(a.canaryErrs) > 0 {
		err, a.canaryErrs = a.canaryErrs[0], a.canaryErrs[1:]
	}
	if err != nil {
		return err
	}
	return a.engine.InstallCanary(ctx, c, cache.RulesPushed)
}

func (a *fakeApplier) Moved(*rules.RuleSet) bool { return a.moved }

func (a *fakeApplier) Unavailable(asked []abi.Event) map[abi.Event]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := map[abi.Event]string{}
	for _, e := range asked {
		if why, ok := a.cannot[e]; ok {
			out[e] = why
		}
	}
	return out
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// fixture is a served control interface with a real engine and store.
type fixture struct {
	t       *testing.T
	dir     string // short, and open to every uid
	socket  string
	source  fakeSource
	engine  *arbiter.Arbiter
	applier *fakeApplier
	store   *store.Store
	server  *Server
	log     *syncBuffer
	direct  *Rules

	rules  controlv1.RulesServiceClient
	events controlv1.EventsServiceClient
	status controlv1.StatusServiceClient
	shadow controlv1.ShadowServiceClient
	canary controlv1.CanaryServiceClient
}

// newFixture serves until the test ends. adjust may change the configuration,
// more register further services; both may be nil.
func newFixture(t *testing.T, adjust func(*Config, *RulesConfig), more func(*grpc.Server)) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: shortDir(t), log: &syncBuffer{}, source: newFakeSource()}
	f.socket = filepath.Join(f.dir, "s")
	boot, err := rules.Load("boot", []byte(ruleFile("boot")), rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.engine, err = arbiter.New(arbiter.Config{Rules: boot,
		Workers: []arbiter.Worker{{Source: f.source, CPU: -1}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.engine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.engine.Close() })
	f.store = openStore(t, filepath.Join(f.dir, "store"))
	f.applier = &fakeApplier{engine: f.engine}
	logger := slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	rc := RulesConfig{Engine: f.engine, Applier: f.applier, Store: f.store, Logger: logger}
	cfg := Config{Engine: f.engine, Logger: logger, Info: func() Info {
		return Info{Version: "v1", Backend: "fanotify", BackendReason: "no BPF LSM", StartedAt: time.Unix(1_800_000_000, 0),
			KernelCounters: map[string]uint64{"posted": 7}, Warnings: []string{"careful"}}
	}}
	if uid := os.Getuid(); uid != 0 { // root needs no list
		cfg.Admin.UIDs = []uint32{uint32(uid)}
	}
	if adjust != nil {
		adjust(&cfg, &rc)
	}
	if cfg.Rules, err = NewRules(rc); err != nil {
		t.Fatal(err)
	}
	f.direct = cfg.Rules
	if f.server, err = newServer(cfg, more); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(SocketConfig{Path: f.socket, Mode: 0o666})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- f.server.Serve(l) }()
	t.Cleanup(func() {
		f.server.Stop(f.ctx())
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	conn, err := dial(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	f.clients(conn)
	return f
}

// openStore opens a store until the test ends.
func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func (f *fixture) clients(conn *grpc.ClientConn) {
	f.t.Cleanup(func() { conn.Close() })
	f.rules = controlv1.NewRulesServiceClient(conn)
	f.events = controlv1.NewEventsServiceClient(conn)
	f.status = controlv1.NewStatusServiceClient(conn)
	f.shadow = controlv1.NewShadowServiceClient(conn)
	f.canary = controlv1.NewCanaryServiceClient(conn)
}

// ctx ends with the test's time limit.
func (f *fixture) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	f.t.Cleanup(cancel)
	return ctx
}

// push pushes a file that must be taken.
func (f *fixture) push(source string) *controlv1.PushResponse {
	f.t.Helper()
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(source), Name: "a.yaml", Reason: "test"})
	if err != nil {
		f.t.Fatalf("Push: %v", err)
	}
	return out
}

// ask asks the engine whether a task of uid 1000 may execute or open path; change may make
// another request of it.
func (f *fixture) ask(event abi.Event, path string, change ...func(*abi.Request)) abi.Verdict {
	f.t.Helper()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		f.t.Fatal(err)
	}
	r := &abi.Request{Event: event, Access: abi.AccessRead, PostedNS: now.Nano(), UID: 1000, GID: 100, EUID: 1000, EGID: 100,
		TGID: 41, TID: 42, StartBoottime: 43, Dev: 44, Ino: 45, Have: abi.AllFields, Cgroup: [abi.CgroupLevels]uint64{46, 47}}
	if event == abi.EventExec {
		r.Access = abi.AccessExec
	}
	copy(r.Comm[:], "asker")
	r.PathLen, r.ExeLen = uint32(copy(r.PathBuf[:], path)), uint32(copy(r.ExeBuf[:], "/bin/asker"))
	for _, c := range change {
		c(r)
	}
	f.source.asked <- r
	f.source.Wake()
	return await(f.t, "the verdict", f.source.answers)
}

// await receives from c within the test's time limit.
func await[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testTimeout):
		t.Fatalf("%s did not come within %v", what, testTimeout)
		panic("BUG: Fatalf returned")
	}
}

// until waits for what is not announced: that ok says so within the time limit.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(testTimeout); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, testTimeout)
		}
	}
}

// shortDir is a directory with a short name, for sockets, that every uid may enter.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "arb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// dial returns a connection to the control interface.
func dial(socket string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessageBytes), grpc.MaxCallSendMsgSize(MaxMessageBytes)))
}

// dialAs returns a connection opened with the credentials of another user.
func dialAs(t *testing.T, socket string, uid, gid int, groups ...uint32) *grpc.ClientConn {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: only root can connect as somebody else")
	}
	conn, err := grpc.NewClient("passthrough:///"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(_ context.Context, path string) (net.Conn, error) { return connectAs(path, uid, gid, groups) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// connectAs connects on a thread of its own whose credentials it changes; the
// raw system calls change no other thread. The thread ends with the goroutine.
func connectAs(path string, uid, gid int, groups []uint32) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread is spoilt
		conn, err := func() (net.Conn, error) {
			if err := setThreadGroups(groups); err != nil {
				return nil, fmt.Errorf("setgroups: %w", err)
			}
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, uintptr(gid), uintptr(gid), uintptr(gid)); e != 0 {
				return nil, fmt.Errorf("setresgid: %w", e)
			}
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); e != 0 {
				return nil, fmt.Errorf("setresuid: %w", e)
			}
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return nil, err
			}
			file := os.NewFile(uintptr(fd), path)
			defer file.Close()
			if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
				return nil, err
			}
			return net.FileConn(file)
		}()
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

// drain reads a stream to its end and returns the error.
func drain[T any](s grpc.ServerStreamingClient[T]) error {
	for {
		if _, err := s.Recv(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/signature"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// daemon is the control interface of arbiterd over an engine whose only source
// asks what scripts want.
type daemon struct {
	engine *arbiter.Arbiter
	source *asking
	start  func() error // for scripts that ask
	stop   func()
}

// newDaemon serves on socket. refuse is what checking any rule set against this
// kernel says, "" for nothing. keys is a directory of keys one of which has to sign the
// rules, "" for none.
func newDaemon(socket, refuse, keys string) (*daemon, error) {
	trust := control.Trust{Required: keys != ""}
	if trust.Required {
		var err error
		if trust.Keys, err = signature.ReadKeys(keys, nil); err != nil {
			return nil, err
		}
	}
	source := &asking{requests: make(chan string, 1), answers: make(chan abi.Verdict, 1)}
	engine, err := arbiter.New(arbiter.Config{Rules: rules.Nothing(), Workers: []arbiter.Worker{{Source: source, CPU: -1}}})
	if err != nil {
		return nil, err
	}
	st, err := store.Open(socket+".store", store.Options{})
	if err != nil {
		return nil, err
	}
	r, err := control.NewRules(control.RulesConfig{Engine: engine, Applier: &applier{engine, refuse}, Store: st, Trust: func() control.Trust { return trust },
		CgroupID: func(string) (uint64, error) { return 1, nil }})
	if err != nil {
		return nil, err
	}
	server, err := control.New(control.Config{Engine: engine, Asks: engine, Rules: r,
		Admin: control.AccessList{UIDs: []uint32{uint32(os.Getuid())}},
		Info: func() control.Info {
			return control.Info{Version: "v0.1.0", Backend: "fanotify", BackendReason: "no BPF LSM here\x1b[2J",
				StartedAt: time.Now(), Bound: 40 * time.Millisecond, KernelCounters: map[string]uint64{"held": 3}, Warnings: []string{"one CPU"}}
		}})
	if err != nil {
		return nil, err
	}
	l, err := control.Listen(control.SocketConfig{Path: socket})
	if err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	return &daemon{engine: engine, source: source, start: sync.OnceValue(engine.Start), stop: sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		server.Stop(ctx)
		wg.Wait()
		engine.Close()
		st.Close()
	})}, nil
}

// asking is a source that has the requests of scripts: an exec of each path.
type asking struct {
	requests chan string
	answers  chan abi.Verdict
}

func (s *asking) Next(r *abi.Request) bool {
	select {
	case path := <-s.requests:
		*r = abi.Request{Event: abi.EventExec, PostedNS: ringtest.Now(), UID: 1000, TGID: 100}
		r.PathLen, r.ExeLen = uint32(copy(r.PathBuf[:], path)), uint32(copy(r.ExeBuf[:], "/usr/bin/python3"))
		return true
	default:
		return false
	}
}

func (s *asking) Reply(_ *abi.Request, v abi.Verdict) bool { s.answers <- v; return true }
func (s *asking) Hold(*abi.Request) bool                   { return true }
func (s *asking) Park(time.Duration)                       { <-time.After(time.Millisecond) }
func (s *asking) Wake()                                    {}

// askIn is the script command "ask PATH": an exec of it, again until somebody watches and
// it is a question. "answered allow|deny" waits for what became of it.
func askIn(ts *testscript.TestScript, d *daemon, args []string) {
	ts.Check(d.start())
	for range 1000 {
		d.source.requests <- args[0]
		for len(d.source.answers) == 0 {
			for _, q := range d.engine.Asks() {
				if q.Event.Path == args[0] {
					return
				}
			}
			<-time.After(time.Millisecond)
		}
		<-d.source.answers // nobody watches yet
		<-time.After(10 * time.Millisecond)
	}
	ts.Fatalf("ask: nobody watches")
}

func answeredIn(ts *testscript.TestScript, d *daemon, args []string) {
	select {
	case v := <-d.source.answers:
		if v.Allowed() != (args[0] == "allow") {
			ts.Fatalf("answered with errno %d, want %s", v.Errno, args[0])
		}
	case <-time.After(20 * time.Second):
		ts.Fatalf("not answered")
	}
}

type applier struct {
	engine *arbiter.Arbiter
	refuse string
}

func (a *applier) Check(context.Context, *rules.RuleSet) ([]string, error) {
	if a.refuse != "" {
		return nil, errors.New(a.refuse)
	}
	return []string{"only one worker"}, nil
}

func (a *applier) Apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) ([]string, error) {
	return nil, a.engine.Install(ctx, rs, reason)
}

func (a *applier) Collect(*rules.RuleSet) error { return nil }

func (a *applier) Canary(ctx context.Context, c *arbiter.Canary) error {
	return a.engine.InstallCanary(ctx, c, cache.RulesPushed)
}

func (a *applier) Moved(*rules.RuleSet) bool { return false }

// Unavailable is everything but open, exec and connect.
func (a *applier) Unavailable(asked []abi.Event) map[abi.Event]string {
	cannot := map[abi.Event]string{}
	for _, e := range asked {
		if e != abi.EventOpen && e != abi.EventExec && e != abi.EventConnect {
			cannot[e] = "this kernel has no hook for it"
		}
	}
	return cannot
}

// startServer is the script command "server [MODE [TEXT]]": without a mode the
// real control interface; with refuse one whose kernel cannot keep any rules, for
// the reason TEXT; with signed one that wants rules to be signed by one of the keys in the
// directory TEXT; with deny one that lets nobody in; with mine one that tells of two
// refusals and of nothing else; with hang one that takes
// connections and says nothing.
func startServer(ts *testscript.TestScript, neg bool, args []string) {
	socket := ts.Getenv(socketEnv)
	mode, text := "", ""
	if len(args) > 0 {
		mode = args[0]
	}
	if len(args) > 1 {
		text = args[1]
	}
	switch mode {
	case "", "refuse", "signed":
		refuse, keys := text, ""
		if mode == "signed" {
			refuse, keys = "", ts.MkAbs(text)
		}
		d, err := newDaemon(socket, refuse, keys)
		ts.Check(err)
		ts.Defer(d.stop)
		ts.SetCmd("record", func(ts *testscript.TestScript, neg bool, args []string) { recordIn(ts, d, args) })
		ts.SetCmd("tried", func(ts *testscript.TestScript, neg bool, args []string) { awaitTried(ts, socket, args) })
		ts.SetCmd("ask", func(ts *testscript.TestScript, neg bool, args []string) { askIn(ts, d, args) })
		ts.SetCmd("answered", func(ts *testscript.TestScript, neg bool, args []string) { answeredIn(ts, d, args) })
		ts.SetCmd("rolledback", func(ts *testscript.TestScript, neg bool, args []string) { awaitRolledBack(ts, socket) })
	case "deny", "hang", "mine":
		l, err := net.Listen("unix", socket)
		ts.Check(err)
		if mode == "hang" {
			ts.Defer(func() { l.Close() })
			return
		}
		s := grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.PermissionDenied, "uid 1000 may not call this: add it to admin.uids")
		}))
		if mode == "mine" {
			controlv1.RegisterRefusalsServiceServer(s, refused{})
		}
		var wg sync.WaitGroup
		wg.Go(func() { s.Serve(l) })
		ts.Defer(func() { s.Stop(); wg.Wait() })
	default:
		ts.Fatalf("server: unknown mode %s", mode)
	}
}

// refused tells of two refusals.
type refused struct {
	controlv1.UnimplementedRefusalsServiceServer
}

func (refused) Mine(_ context.Context, q *controlv1.MineRequest) (*controlv1.MineResponse, error) {
	all := []*controlv1.Refusal{
		{Seq: 7, Time: timestamppb.New(time.Date(2026, 11, 24, 12, 30, 15, 0, time.UTC)), Event: "exec", Verdict: "deny", Errno: 13,
			Path: []byte("/srv/app/bin/sh\x1b[2J"), Message: "shells are not run here\u202e", Owner: "ops\x1b[2J", Rule: "no-shells"},
		{Seq: 9, Time: timestamppb.New(time.Date(2026, 11, 24, 12, 31, 15, 0, time.UTC)), Event: "connect", Verdict: "deny", Errno: 1, Undecided: true},
	}
	if q.Seq == 0 {
		return &controlv1.MineResponse{Refusals: all}, nil
	}
	for _, r := range all {
		if r.Seq == q.Seq {
			return &controlv1.MineResponse{Refusals: []*controlv1.Refusal{r}}, nil
		}
	}
	return nil, status.Errorf(codes.NotFound, "%d is no refusal of uid 1000 that is kept", q.Seq)
}

func record(ts *testscript.TestScript, neg bool, args []string) {
	ts.Fatalf("record, ask, answered: start a server first")
}

// recordIn is the script command "record NAME...": events as the engine would
// record them.
func recordIn(ts *testscript.TestScript, d *daemon, args []string) {
	for _, name := range args {
		e, ok := madeUp[name]
		if !ok {
			ts.Fatalf("record: unknown event %s", name)
		}
		d.engine.Record(e)
	}
}

// awaitTried is the script command "tried N": it returns when the candidate has looked at N
// decisions.
func awaitTried(ts *testscript.TestScript, socket string, args []string) {
	want, err := strconv.ParseUint(args[0], 10, 64)
	ts.Check(err)
	await(ts, socket, func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		r, err := controlv1.NewShadowServiceClient(conn).Get(ctx, &controlv1.ShadowGetRequest{})
		return r.GetState().GetDecisions() >= want, err
	})
}

// awaitRolledBack is the script command "rolledback": it returns when the canary has ended.
func awaitRolledBack(ts *testscript.TestScript, socket string) {
	await(ts, socket, func(ctx context.Context, conn *grpc.ClientConn) (bool, error) {
		r, err := controlv1.NewCanaryServiceClient(conn).Get(ctx, &controlv1.CanaryServiceGetRequest{})
		return !r.GetState().GetRunning(), err
	})
}

// await asks the daemon again and again until done.
func await(ts *testscript.TestScript, socket string, done func(context.Context, *grpc.ClientConn) (bool, error)) {
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	ts.Check(err)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond) // calls are limited
	defer tick.Stop()
	for {
		ok, err := done(ctx, conn)
		ts.Check(err)
		if ok {
			return
		}
		<-tick.C
	}
}

// madeUp are the events of the scripts.
var madeUp = map[string]arbiter.Event{
	"denied": {Time: time.Date(2026, 11, 24, 12, 30, 15, 123456789, time.UTC), Event: abi.EventExec, Access: abi.AccessExec,
		Verdict: "deny", Errno: 13, Rule: "no-shells", Line: 5, Message: "shells are not run here; ask ops", Epoch: 1, Fingerprint: 0xfe,
		Latency: 1500 * time.Nanosecond, TGID: 100, TID: 101, UID: 1000, GID: 100, Comm: "python3", Exe: "/usr/bin/python3",
		Path: "/srv/app/bin/sh", Dev: 2049, Ino: 77, EUID: 1000, EGID: 100, Facts: hadFacts},
	"audited": {Time: time.Date(2026, 11, 24, 12, 30, 16, 0, time.UTC), Event: abi.EventOpen, Access: abi.AccessRead,
		Verdict: "audit", Rule: "watch-keys", Line: 9, Epoch: 1, Latency: 900 * time.Nanosecond, TGID: 102, UID: 0,
		Exe: "/usr/bin/cat", Path: "/srv/app/keys/a.pem", Facts: abi.AllFields, Cgroup: [abi.CgroupLevels]uint64{1, 4711},
		InTrees: []string{"/usr/sbin/sshd"}, NotInTrees: []string{"/usr/sbin/cron"}},
	"allowed": {Time: time.Date(2026, 11, 24, 12, 30, 17, 0, time.UTC), Event: abi.EventOpen, Access: abi.AccessRead | abi.AccessWrite,
		Verdict: "allow", Rule: "default", Epoch: 1, Latency: 400 * time.Nanosecond, TGID: 103, UID: 1000, Exe: "/usr/bin/vi", Path: "/srv/app/notes",
		EUID: 1000, Facts: hadFacts},
	"failed": {Time: time.Date(2026, 11, 24, 12, 30, 18, 0, time.UTC), Event: abi.EventExec, Access: abi.AccessExec,
		Verdict: "allow", Reason: abi.ReasonNoWorker, TGID: 104, UID: 1000, Path: "/srv/app/bin/tool"},
	"in-kernel": {Time: time.Date(2026, 11, 24, 12, 30, 18, 0, time.UTC), Event: abi.EventMkdir, Verdict: "deny", Errno: 1, Rule: "by-ids", Line: 3, Epoch: 1,
		TGID: 108, UID: 1000},
	"infected": {Time: time.Date(2026, 11, 24, 12, 30, 18, 0, time.UTC), Event: abi.EventExec, Access: abi.AccessExec, Verdict: "deny", Errno: 1, Rule: "no-malware", Line: 8, Epoch: 1,
		Latency: time.Microsecond, TGID: 112, UID: 1000, Exe: "/usr/bin/bash", Path: "/srv/app/x", Scan: abi.ScanInfected, Signature: "Eicar,Test\n\x1b[2J", Facts: hadFacts},
	"renamed": {Time: time.Date(2026, 11, 24, 12, 30, 18, 0, time.UTC), Event: abi.EventRename, Verdict: "deny", Errno: 1, Rule: "no-names", Line: 7,
		Latency: time.Microsecond, TGID: 106, UID: 1000, Exe: "/usr/bin/mv", Path: "/srv/app/a", Detail: "/srv/app/b c"},
	"connected": {Time: time.Date(2026, 11, 24, 12, 30, 19, 0, time.UTC), Event: abi.EventConnect, Verdict: "audit", Rule: "web", Line: 8,
		Latency: time.Microsecond, TGID: 107, UID: 1000, Exe: "/usr/bin/curl", Args: [abi.Args]uint64{2, 1, 6, 443, 0, 0xffffc0000201}},
	"hostile": {Time: time.Date(2026, 11, 24, 12, 30, 19, 0, time.UTC), Event: abi.EventOpen, Access: abi.AccessWrite,
		Verdict: "deny", Errno: 1, Rule: "no-writes", Line: 7, Epoch: 1, Latency: time.Microsecond, TGID: 105, UID: 1000,
		Comm: "e\x1b[31mvil", Exe: "/tmp/\xff\xfe/run",
		Path: "/srv/app/a\n2026-11-24T12:30:20.000Z  99  exec  allow\x1b[2J\u202e\\x41", EUID: 1000, Facts: hadFacts},
	// Without a time it is now, which is what a candidate looks at.
	"now": {Event: abi.EventExec, Access: abi.AccessExec, Verdict: "allow", Rule: "default", Epoch: 1, TGID: 110, UID: 1000, Exe: "/usr/bin/make",
		Path: "/srv/app/bin/tool\x1b[2J", Facts: hadFacts},
	// Of the canary beside epoch 1.
	"canaried": {Event: abi.EventExec, Access: abi.AccessExec, Verdict: "deny", Errno: 1, Rule: "no-tools", Epoch: 2, TGID: 111, UID: 1000, Exe: "/usr/bin/make",
		Path: "/srv/app/bin/tool\x1b[2J", Facts: hadFacts},
	"self-protected": {Time: time.Date(2026, 11, 24, 12, 30, 20, 0, time.UTC), Event: abi.EventSignal, Verdict: "deny", Errno: 1, Rule: "self-protection",
		TGID: 109, UID: 0},
}

// hadFacts is what most records have: no rule in force has asked for cgroups or process trees.
const hadFacts = abi.AllFields &^ (abi.FieldCgroup | abi.FieldTree)

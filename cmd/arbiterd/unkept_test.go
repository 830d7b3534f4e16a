// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// fanotify tells of two events, and says of every other one why not.
func TestFanotifyUnavailable(t *testing.T) {
	var all []abi.Event
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		all = append(all, e)
	}
	cannot := new(fanotifyBackend).Unavailable(all)
	for _, e := range all {
		if why, ok := cannot[e]; ok != (e != abi.EventOpen && e != abi.EventExec) || ok && why == "" {
			t.Errorf("%s: cannot %t, because %q", e, ok, why)
		}
	}
	if got := new(fanotifyBackend).Unavailable([]abi.Event{abi.EventOpen}); len(got) != 0 {
		t.Errorf("of open alone: %v, want nothing", got)
	}
}

const netRules = `version: 1
default: allow
scope: {paths: [/t]}
rules:
  - {id: web, events: [open, connect], verdict: audit}
`

// A set that was stored is put in force also where not all of it is kept, and what is
// not is told.
func TestStoredSetIsKeptInPart(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), backend: fakeBackend{}}
	d.hurry, d.abort = context.WithCancel(t.Context())
	defer d.abort()
	var err error
	if d.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(), Workers: []arbiter.Worker{{Source: stuckSource{}, CPU: -1}}}); err != nil {
		t.Fatal(err)
	}
	defer d.engine.Close()
	rs, err := rules.Load("r", []byte(netRules), rules.Options{Epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	warnings, err := d.Apply(t.Context(), rs, cache.Start)
	if err != nil || d.engine.Rules().Epoch() != 3 {
		t.Fatalf("applying: %v, epoch %d in force, want 3", err, d.engine.Rules().Epoch())
	}
	want := "the event connect is not asked about: fanotify tells of open and exec only; it needs a kernel with BPF LSM; rules without effect on it: web"
	if len(warnings) != 1 || warnings[0] != want {
		t.Errorf("warnings %q, want %q", warnings, want)
	}
	if kept := d.limits.Load(); kept == nil || len(*kept) != 1 {
		t.Errorf("status would say %v, want the warning", kept)
	}
}

// The same over the control interface of a daemon on fanotify.
func TestPushOfAnEventThatIsNotAsked(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--backend", "fanotify")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	source := []byte(strings.Replace(netRules, "/t]", dir+"/tree]", 1))
	client := pb.NewRulesServiceClient(d.conn)
	_, err := client.Push(ctx, &pb.PushRequest{Source: source, Name: "test.yaml"})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "test.yaml:5:23: rule web: the event connect cannot be asked about here: fanotify") {
		t.Errorf("got %v, want a refusal with rule, line and reason", err)
	}
	out, err := client.Push(ctx, &pb.PushRequest{Source: source, Name: "test.yaml", BestEffort: true})
	if err != nil || !strings.Contains(strings.Join(out.GetWarnings(), "\n"), "the event connect is not asked about") {
		t.Errorf("best effort: %v, %v, want it in force with a warning", out, err)
	}
	st, err := pb.NewStatusServiceClient(d.conn).Get(ctx, &pb.StatusServiceGetRequest{})
	if err != nil || !strings.Contains(strings.Join(st.GetWarnings(), "\n"), "the event connect is not asked about") {
		t.Errorf("status: warnings %q, %v, want that connect is not asked about", st.GetWarnings(), err)
	}
}

// What the kernel side reports of its own failure verdicts has the event's texts and
// numbers.
func TestFailureEventHasItsFacts(t *testing.T) {
	f := &abi.Failure{Reason: abi.ReasonDeadline, Verdict: abi.Verdict{Errno: 1}}
	f.Event, f.Arg = abi.EventRename, [abi.Args]uint64{1}
	f.PathLen = uint32(copy(f.PathBuf[:], "/t/a"))
	f.DetailLen = uint32(copy(f.DetailBuf[:], "/t/b"))
	if e := failureEvent(f); e.Path != "/t/a" || e.Detail != "/t/b" || e.Args != f.Arg || e.Verdict != "deny" {
		t.Errorf("got %+v", e)
	}
}

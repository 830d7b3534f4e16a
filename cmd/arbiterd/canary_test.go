// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter"
	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// pushCanary pushes rules for half of the processes.
func (d *runs) pushCanary(text string) {
	d.t.Helper()
	start := &pb.CanaryStart{Part: &pb.CanaryStart_Percent{Percent: 50}, For: durationpb.New(time.Hour), MaxFailureRate: proto.Float64(1)}
	if _, err := pb.NewRulesServiceClient(d.conn).Push(d.t.Context(), &pb.PushRequest{Source: []byte(text), Name: "next.yaml", Canary: start}); err != nil {
		d.t.Fatal(err)
	}
}

// enough is how many processes are in both halves for sure, but for one time in 2^99.
const enough = 100

// Some processes get what the canary says, all others what the rules in force say; once it
// is promoted all do.
func TestCanaryEndToEnd(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	live := ruleText(dir, "ENOENT")
	d.push(live)
	d.soon(unix.EPERM, "bad")
	w := d.watch()
	d.pushCanary(strings.Replace(live, "    verdict: deny\n", "    verdict: audit\n", 1))
	seen := map[unix.Errno]bool{}
	for range enough {
		if seen[d.try("bad")] = true; len(seen) == 2 {
			break
		}
	}
	if !seen[0] || !seen[unix.EPERM] || len(seen) != 2 {
		t.Fatalf("got %v, want that some processes may, and some may not", seen)
	}
	verdicts := map[string]uint64{}
	for len(verdicts) < 2 {
		m, err := w.Recv()
		if err != nil {
			t.Fatalf("after %v: %v", verdicts, err)
		}
		if e := m.GetEvent(); e.GetRule() == "no-bad" {
			verdicts[e.GetVerdict()] = e.GetEpoch()
		}
	}
	if verdicts["deny"] != 1 || verdicts["audit"] != 2 {
		t.Errorf("epochs by verdict: %v, want 1 to refuse and 2 to allow", verdicts)
	}
	if _, err := pb.NewCanaryServiceClient(d.conn).Promote(t.Context(), &pb.CanaryServicePromoteRequest{}); err != nil {
		t.Fatal(err)
	}
	if s := d.status(); s.Epoch != 2 || !s.GetCanary().GetPromoted() {
		t.Errorf("epoch %d is in force, canary %v; want 2", s.Epoch, s.Canary)
	}
	for range 10 {
		if got := d.try("bad"); got != 0 {
			t.Fatalf("after the promotion: %v", got)
		}
	}
}

// A restart ends a canary, and nothing is to be repaired.
func TestCanaryRestart(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "ENOENT"))
	d.pushCanary(strings.Replace(ruleText(dir, "ENOENT"), "    verdict: deny\n", "    verdict: audit\n", 1))
	d.stop()
	d = startDaemon(t, dir)
	if s := d.status(); s.Epoch != 1 || s.Canary != nil || len(s.GetStore().GetIncidents()) != 0 {
		t.Errorf("epoch %d, canary %v, incidents %v; want 1 and neither", s.Epoch, s.Canary, s.GetStore().GetIncidents())
	}
	d.soon(unix.EPERM, "bad")
}

// While a canary runs the kernel side asks about everything and keeps nothing, with the
// facts of both sets.
func TestCanaryPolicy(t *testing.T) {
	load := func(epoch uint64, rule string) policy {
		rs, err := rules.Load("r.yaml", []byte("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n  - "+rule+"\n"), rules.Options{Epoch: epoch})
		if err != nil {
			t.Fatal(err)
		}
		return policyOf(rs)
	}
	live := load(1, "{id: a, events: [open], subject: {uid: 1}, access: write, verdict: deny}")
	next := load(2, "{id: b, events: [open], object: {path: /t/a}, deadline: 2s, verdict: deny}")
	if len(live.kernel[abi.EventOpen]) == 0 || live.keep[abi.EventOpen] == 0 {
		t.Fatal("the kernel side decides nothing by itself of the rules in force: the test shows nothing")
	}
	for _, part := range []arbiter.Part{{Share: 1}, {Cgroup: 7}} {
		both := live.again().beside(next, part)
		if len(both.kernel[abi.EventOpen]) != 0 || both.keep[abi.EventOpen] != 0 || both.set != nil || !both.scopeStays {
			t.Errorf("%+v: the kernel side decides by itself: %+v", part, both)
		}
		if both.sleep != 2*time.Second {
			t.Errorf("%+v: it waits %v, want the longer of the two deadlines", part, both.sleep)
		}
		if want := abi.FieldPath | abi.FieldUID | abi.FieldAccess; both.want[abi.EventOpen]&want != want {
			t.Errorf("%+v: it fetches %v, want what either set looks at", part, both.want[abi.EventOpen])
		}
		if got := both.want[abi.EventExec]&abi.FieldCgroup != 0; got != (part.Cgroup != 0) {
			t.Errorf("%+v: it fetches cgroups: %t", part, got)
		}
	}
}

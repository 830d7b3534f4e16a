// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/audit"
	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/rules"
)

// A candidate that looks at what the rules in force do not: the kernel side collects it, no
// program notices, and what the candidate would refuse is refused once it is promoted. What
// was recorded meanwhile comes out again bit for bit.
func TestShadowEndToEnd(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--audit-log", dir+"/audit.jsonl")
	live := ruleText(dir, "ENOENT")
	next := strings.Replace(live, "rules:\n", "rules:\n  - id: no-plain\n    events: [open]\n    object: {path: "+d.tree+"/plain}\n    access: [read]\n    verdict: deny\n", 1)
	d.push(live)
	d.soon(0, "good", d.tree+"/plain")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	shadow := pb.NewShadowServiceClient(d.conn)
	if _, err := shadow.Start(ctx, &pb.ShadowStartRequest{Source: []byte(next), Name: "next.yaml"}); err != nil {
		t.Fatal(err)
	}
	d.soon(0, "good", d.tree+"/plain")
	d.soon(unix.EPERM, "bad")
	tick := time.NewTicker(50 * time.Millisecond) // calls are limited
	defer tick.Stop()
	var s *pb.ShadowState
	for s.GetChanges()["allow_to_deny"] == 0 {
		r, err := shadow.Get(ctx, &pb.ShadowGetRequest{})
		if err != nil {
			t.Fatalf("the candidate has flipped nothing: %v, %v", s, err)
		}
		s = r.GetState()
		<-tick.C
	}
	if len(s.GetCannotTell()) != 0 || s.GetLost() != 0 || len(s.GetGroups()) == 0 || s.GetGroups()[0].GetAfter().GetRule() != "no-plain" {
		t.Errorf("state %v, want the opens of plain, and nothing that cannot be told", s)
	}
	d.soon(0, "good", d.tree+"/plain") // still
	if _, err := shadow.Promote(ctx, &pb.ShadowPromoteRequest{}); err == nil {
		t.Error("promoted, though it would flip something")
	}
	if out, err := shadow.Promote(ctx, &pb.ShadowPromoteRequest{Force: true}); err != nil || out.GetEpoch() != 2 {
		t.Fatalf("by force: %v, %v; want epoch 2", out, err)
	}
	d.soon(unix.EPERM, "good", d.tree+"/plain")
	d.stop()

	log, err := os.ReadFile(dir + "/audit.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{live, next} {
		rs, err := rules.Load("r.yaml", []byte(text), rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tally := trial.NewTally(trial.New(rs, trial.Options{}))
		for r := audit.NewReader(bytes.NewReader(log)); ; {
			e, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("line %d of the verdict log: %v", r.Line(), err)
			}
			tally.Add(e)
		}
		if tally.Own == 0 || tally.Broken != 0 {
			t.Errorf("of %d decisions of the same set %d come out otherwise, want some and none: %v", tally.Own, tally.Broken, tally.Groups())
		}
	}
}

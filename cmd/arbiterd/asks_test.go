// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// A real program is held until somebody has answered, others run meanwhile, and without
// anybody there the default stands. The rule looks at the file first, so it is held twice.
func TestAsksEndToEnd(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--hold-limit", "30s")
	d.push(fmt.Sprintf("version: 1\ndefault: allow\non_fail: deny\nscope: {paths: [%[1]q]}\nrules:\n"+
		"- {id: ask, events: [open], object: {path: %[2]q, format: other}, verdict: {ask: {default: deny, within: 20s}}}\n", d.tree, d.tree+"/secret"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	x, err := pb.NewRulesServiceClient(d.conn).Explain(ctx, &pb.ExplainRequest{Event: "open", Path: []byte(d.tree + "/secret")})
	if err != nil {
		t.Fatal(err)
	}
	if x.GetBound().AsDuration() < 20*time.Second {
		t.Skip("tasks cannot sleep here, and wait for " + x.GetBound().AsDuration().String())
	}
	d.soon(unix.EPERM, "good", d.tree+"/secret") // nobody watches
	asks := pb.NewAsksServiceClient(d.conn)
	w, err := asks.Watch(ctx, &pb.AsksServiceWatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Recv(); err != nil { // from here on somebody does
		t.Fatal(err)
	}
	for _, tc := range []struct {
		verdict string
		want    unix.Errno
	}{{"allow", 0}, {"deny", unix.EPERM}} {
		got := make(chan unix.Errno, 1)
		go func() { got <- d.try("good", d.tree+"/secret") }()
		var q *pb.Ask
		for q == nil {
			m, err := w.Recv()
			if err != nil {
				t.Fatalf("waiting for the question: %v\n%s", err, d.log)
			}
			if len(m.Asks) > 0 {
				q = m.Asks[0]
			}
		}
		if string(q.Event.Object.Path) != d.tree+"/secret" {
			t.Errorf("the question is about %q", q.Event.Object.Path)
		}
		d.soon(0, "good", d.tree+"/plain") // while the other one is held
		if a, err := asks.Answer(ctx, &pb.AnswerRequest{Id: q.Id, Verdict: tc.verdict}); err != nil || a.Waited != 1 {
			t.Errorf("answering: %v, %v", a, err)
		}
		if e := <-got; e != tc.want {
			t.Errorf("%s: got %v, want %v", tc.verdict, e, tc.want)
		}
	}
	d.stop()
}

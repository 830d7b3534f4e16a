// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const ownedRules = `version: 1
default: allow
scope: {paths: [/t]}
rules:
  - {id: secret-id, events: [exec], object: {path: /t/bin/sh}, verdict: {deny: EACCES}, message: ask first, owner: ops}
`

// TestRefusals has several users ask what was refused to them, and wants each to be told of
// his own and of nothing else.
func TestRefusals(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	for _, tt := range []struct {
		name string
		tell Telling
		rule string // that is told
	}{
		{"messages", TellMessages, ""},
		{"ids", TellIDs, "secret-id"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config, _ *RulesConfig) { c.TellRefused = tt.tell }, nil)
			pushed := f.push(ownedRules)
			refused := arbiter.Event{Time: at, Event: abi.EventExec, Verdict: "deny", Errno: 13, Rule: "secret-id", Line: 5, Message: "ask first",
				Epoch: pushed.GetEpoch(), Fingerprint: pushed.GetFingerprint(), UID: 1003, EUID: 1003, Exe: "/t/secret", Path: "/t/bin/sh", Facts: abi.AllFields}
			record := func(change func(*arbiter.Event)) {
				e := refused
				change(&e)
				f.engine.Record(e)
			}
			seq := f.engine.Stats().LastSeq
			record(func(*arbiter.Event) {})                                                                         // 1
			record(func(e *arbiter.Event) { e.UID, e.EUID = 1004, 1004 })                                           // 2: another's
			record(func(e *arbiter.Event) { e.EUID = 0 })                                                           // 3: with root's rights
			record(func(e *arbiter.Event) { e.UID = 1004 })                                                         // 4: of another, with his
			record(func(e *arbiter.Event) { e.Verdict, e.Errno = "audit", 0 })                                      // 5: no refusal
			record(func(e *arbiter.Event) { e.Late = true })                                                        // 6: without effect
			record(func(e *arbiter.Event) { e.Event, e.Epoch = abi.EventSignal, 99 })                               // 7: to a process, by other rules
			record(func(e *arbiter.Event) { e.Facts, e.Reason, e.Rule, e.Message = 0, abi.ReasonNoWorker, "", "" }) // 8: no decision
			record(func(e *arbiter.Event) { e.Line = 4 })                                                           // 9: no rule begins there
			mine := controlv1.NewRefusalsServiceClient(dialAs(t, f.socket, 1003, 3000))
			got, err := mine.Mine(f.ctx(), &controlv1.MineRequest{})
			if err != nil {
				t.Fatal(err)
			}
			told := func(n uint64, change func(*controlv1.Refusal)) *controlv1.Refusal {
				m := &controlv1.Refusal{Seq: seq + n, Time: timestamppb.New(at), Event: "exec", Verdict: "deny", Errno: 13,
					Path: []byte("/t/bin/sh"), Message: "ask first", Owner: "ops", Rule: tt.rule}
				change(m)
				return m
			}
			want := &controlv1.MineResponse{Refusals: []*controlv1.Refusal{
				told(1, func(*controlv1.Refusal) {}),
				told(7, func(m *controlv1.Refusal) { m.Event, m.Path, m.Owner = "signal", nil, "" }),
				told(8, func(m *controlv1.Refusal) { m.Path, m.Message, m.Owner, m.Rule, m.Undecided = nil, "", "", "", true }),
				told(9, func(m *controlv1.Refusal) { m.Owner = "" }),
			}}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Errorf("refusals (-want +got):\n%s", diff)
			}

			one, err := mine.Mine(f.ctx(), &controlv1.MineRequest{Seq: seq + 1})
			if err != nil || len(one.GetRefusals()) != 1 || one.GetRefusals()[0].GetSeq() != seq+1 {
				t.Errorf("one refusal: got %v, %v", one, err)
			}
			last, err := mine.Mine(f.ctx(), &controlv1.MineRequest{Most: 1})
			if err != nil || len(last.GetRefusals()) != 1 || last.GetRefusals()[0].GetSeq() != seq+9 {
				t.Errorf("the last refusal: got %v, %v, want number %d", last, err, seq+9)
			}
			// Another's event and one that was never there are not to be told apart.
			var texts []string
			for _, n := range []uint64{2, 3, 4, 5, 1000} {
				_, err := mine.Mine(f.ctx(), &controlv1.MineRequest{Seq: seq + n})
				wantStatus(t, err, codes.NotFound, fmt.Sprintf("%d is no refusal of uid 1003", seq+n))
				text := status.Convert(err).Message()
				texts = append(texts, text[len(fmt.Sprint(seq+n)):])
			}
			if n := len(slices.Compact(texts)); n != 1 {
				t.Errorf("%d different answers for events that are not the caller's: %q", n, texts)
			}
		})
	}
}

// TestRefusalsAuthorisation: with the configuration's leave everybody may call Mine, and
// nothing else besides.
func TestRefusalsAuthorisation(t *testing.T) {
	for _, tell := range []Telling{TellNothing, TellMessages, TellIDs} {
		f := newFixture(t, func(c *Config, rc *RulesConfig) {
			mayCall(c, rc)
			c.TellRefused = tell
		}, nil)
		conn := dialAs(t, f.socket, 1003, 3000)
		for _, m := range methodsOf(f.server) {
			allowed := isHealth(m) || tell != TellNothing && m == controlv1.RefusalsService_Mine_FullMethodName
			if got := status.Code(tryMethod(f.ctx(), conn, m)) != codes.PermissionDenied; got != allowed {
				t.Errorf("telling %d, %s: allowed %v, want %v", tell, m, got, allowed)
			}
		}
	}
}

// TestRefusalsAreBounded: as many as are kept are looked at, and not more than asked for told.
func TestRefusalsAreBounded(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *RulesConfig) { c.TellRefused = TellMessages }, nil)
	for range 300 {
		f.engine.Record(arbiter.Event{Event: abi.EventExec, Verdict: "deny", Errno: 1, UID: 1003, EUID: 1003})
	}
	mine := controlv1.NewRefusalsServiceClient(dialAs(t, f.socket, 1003, 3000))
	for most, want := range map[uint32]int{0: usualRefusals, 5: 5, 1 << 31: mostRefusals} {
		got, err := mine.Mine(f.ctx(), &controlv1.MineRequest{Most: most})
		if err != nil || len(got.GetRefusals()) != want {
			t.Errorf("most %d: got %d, %v; want %d", most, len(got.GetRefusals()), err, want)
		}
	}
}

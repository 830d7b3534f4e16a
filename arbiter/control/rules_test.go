// SPDX-License-Identifier: Apache-2.0

package control

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// wantServed wants the rules of ruleFile("a") in epoch 1 to be in force in every
// respect: by verdict, by Get, in the store.
func (f *fixture) wantServed() {
	f.t.Helper()
	if v := f.ask(abi.EventExec, "/t/a"); v.Allowed() {
		f.t.Error("/t/a is allowed, want denied by the rules from before")
	}
	if v := f.ask(abi.EventExec, "/t/b"); !v.Allowed() {
		f.t.Errorf("/t/b is denied (%v), want allowed by the rules from before", v)
	}
	got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{})
	if err != nil || string(got.GetSource()) != ruleFile("a") || got.GetInfo().GetEpoch() != 1 {
		f.t.Errorf("Get: got %v, %v; want the rules from before", got, err)
	}
	if m, ok := f.store.Current(); !ok || m.Epoch != 1 {
		f.t.Errorf("the store's current epoch is %d (%v), want 1", m.Epoch, ok)
	}
	if h := f.store.History(0); len(h) != 1 {
		f.t.Errorf("history %v, want epoch 1 alone", h)
	}
}

// TestBadFilesChangeNothing pushes what cannot be parsed, checked or compiled.
func TestBadFilesChangeNothing(t *testing.T) {
	f := newFixture(t, func(_ *Config, rc *RulesConfig) { rc.CgroupID = boxIDs }, nil)
	f.push(ruleFile("a"))
	before := f.engine.Rules()
	for _, tt := range []struct{ name, source, part string }{
		{"empty", "", "a.yaml:1:"},
		{"not YAML", "version: [1\n", "a.yaml:"},
		{"not text", "version: 1\n\xff\n", "a.yaml:"},
		{"another version", "version: 2\n", "a.yaml:1:"},
		{"no such cgroup", ruleFile("b") + "  - {id: c, events: [exec], subject: {cgroup: /gone}, verdict: deny}\n", "a.yaml:9:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(tt.source), Name: "a.yaml"})
			wantStatus(t, err, codes.InvalidArgument, "not applied", tt.part)
			if n := len(detail[*controlv1.RuleProblems](t, err).GetProblems()); n == 0 {
				t.Error("no problem is among the details")
			}
			if f.engine.Rules() != before {
				t.Errorf("epoch %d is in force, want %d as before", f.engine.Rules().Epoch(), before.Epoch())
			}
			f.wantServed()
		})
	}
	if n := f.store.Next(); n != 2 {
		t.Errorf("the next epoch is %d, want 2: bad files use none up", n)
	}
}

// TestNoRulesYet: the set that the daemon starts with was given by nobody.
func TestNoRulesYet(t *testing.T) {
	f := newFixture(t, nil, nil)
	for _, req := range []*controlv1.GetRequest{{}, {Epoch: proto.Uint64(0)}} {
		_, err := f.rules.Get(f.ctx(), req)
		wantStatus(t, err, codes.NotFound)
	}
	_, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{})
	wantStatus(t, err, codes.NotFound, "no rules are in force", "arbiterctl rules push")
	history, err := f.rules.History(f.ctx(), &controlv1.HistoryRequest{})
	if err != nil || len(history.GetEntries()) != 0 {
		t.Errorf("History: got %v, %v; want none", history, err)
	}
	_, err = f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 0})
	wantStatus(t, err, codes.NotFound, "epoch 0")
}

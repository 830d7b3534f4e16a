// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// pending pushes rules that have to be confirmed within long, not by the service, which
// does not let it be short.
func (f *fixture) pending(source string, long time.Duration) Pushed {
	f.t.Helper()
	out, err := f.direct.Push(f.ctx(), Push{Source: []byte(source), Name: "t", ConfirmWithin: long})
	if err != nil {
		f.t.Fatal(err)
	}
	if out.ConfirmBy.IsZero() {
		f.t.Error("it does not say until when it has to be confirmed")
	}
	return out
}

// wait waits for what a timer does.
func (f *fixture) wait(what string, cond func() bool) {
	f.t.Helper()
	for end := time.Now().Add(testTimeout); !cond(); unix.Poll(nil, 1) {
		if time.Now().After(end) {
			f.t.Fatalf("not within %v: %s", testTimeout, what)
		}
	}
}

func (f *fixture) inForce(epoch uint64) bool { return f.engine.Rules().Epoch() == epoch }

// What nobody confirms goes again, and the store has never had it.
func TestUnconfirmedRulesGo(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	out := f.pending(ruleFile("b"), 50*time.Millisecond)
	if out.Epoch != 2 || out.Previous != 1 {
		t.Errorf("epoch %d after %d, want 2 after 1", out.Epoch, out.Previous)
	}
	f.wait("epoch 1 is in force again", func() bool { _, waits := f.direct.Pending(); return f.inForce(1) && !waits })
	history, err := f.rules.History(f.ctx(), &controlv1.HistoryRequest{})
	if err != nil || len(history.GetEntries()) != 1 {
		t.Errorf("history %v, %v; want epoch 1 alone", history.GetEntries(), err)
	}
	if got := f.push(ruleFile("c")); got.GetEpoch() != 3 || got.GetPreviousEpoch() != 1 {
		t.Errorf("the next push: epoch %d after %d, want 3 after 1", got.GetEpoch(), got.GetPreviousEpoch())
	}
}

// The first rules of all go as well.
func TestUnconfirmedFirstRulesGo(t *testing.T) {
	f := newFixture(t, nil, nil)
	before := f.engine.Rules()
	f.pending(ruleFile("a"), 50*time.Millisecond)
	f.wait("what was in force is again", func() bool { _, waits := f.direct.Pending(); return f.engine.Rules() == before && !waits })
}

func TestConfirm(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b")), Name: "b", Reason: "try", ConfirmWithin: durationpb.New(time.Hour)})
	if err != nil || out.GetEpoch() != 2 || time.Until(out.GetConfirmBy().AsTime()) < 50*time.Minute {
		t.Fatalf("push: %v, %v", out, err)
	}
	s, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if p := s.GetPending(); err != nil || p.GetEpoch() != 2 || p.GetPreviousEpoch() != 1 || !p.GetUntil().AsTime().Equal(out.GetConfirmBy().AsTime()) {
		t.Errorf("status: %v, %v", p, err)
	}
	got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{})
	if i := got.GetInfo(); err != nil || i.GetEpoch() != 2 || i.GetReason() != "try" || i.GetName() != "b" || i.GetSize() == 0 {
		t.Errorf("get: %v, %v", i, err)
	}
	for what, call := range map[string]func() error{
		"another push": func() error {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("c"))})
			return err
		},
		"a rollback": func() error {
			_, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1})
			return err
		},
	} {
		if err := call(); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "rules confirm 2`") {
			t.Errorf("%s meanwhile: %v, want FAILED_PRECONDITION that names the command", what, err)
		}
	}
	if _, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("c")), DryRun: true}); err != nil {
		t.Errorf("a dry run meanwhile: %v", err)
	}
	var waits *PendingError
	if _, err := f.direct.Freeze(f.ctx()); !errors.As(err, &waits) {
		t.Errorf("a takeover meanwhile: %v, want that it waits", err)
	}
	for _, epoch := range []uint64{1, 3} {
		if _, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: epoch}); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("confirming epoch %d: %v, want FAILED_PRECONDITION", epoch, err)
		}
	}
	if c, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: 2}); err != nil || c.GetEpoch() != 2 {
		t.Errorf("confirm: %v, %v", c, err)
	}
	if m, ok := f.store.Current(); !ok || m.Epoch != 2 || !f.inForce(2) {
		t.Errorf("the store has %+v in force, the engine %d, want epoch 2", m, f.engine.Rules().Epoch())
	}
	if _, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: 2}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("confirming twice: %v, want FAILED_PRECONDITION", err)
	}
	if got := f.push(ruleFile("c")); got.GetEpoch() != 3 {
		t.Errorf("the next push is epoch %d, want 3", got.GetEpoch())
	}
}

func TestRevert(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.pending(ruleFile("b"), time.Hour)
	if r, err := f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: 2}); err != nil || r.GetEpoch() != 1 || !f.inForce(1) {
		t.Errorf("revert: %v, %v; in force %d, want epoch 1", r, err, f.engine.Rules().Epoch())
	}
	if _, err := f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: 2}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("reverting twice: %v, want FAILED_PRECONDITION", err)
	}
}

// Where the rules before cannot be put in force any more, nothing is arbitrated.
func TestRevertToWhatIsGone(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.pending(ruleFile("b"), 50*time.Millisecond)
	f.applier.mu.Lock()
	f.applier.failures = []error{errors.New("the scope has gone")}
	f.applier.mu.Unlock()
	f.wait("nothing is in force", func() bool { _, waits := f.direct.Pending(); return f.inForce(0) && !waits })
	s, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil || !strings.Contains(strings.Join(s.GetWarnings(), "\n"), "nothing is arbitrated: push rules: the scope has gone") {
		t.Errorf("warnings %q, %v", s.GetWarnings(), err)
	}
	f.push(ruleFile("c"))
	if p := f.direct.Problem(); p != "" {
		t.Errorf("after the next push it still says %q", p)
	}
}

// A way back that fails altogether is tried again, and until it works nothing else is put in
// force.
func TestRevertFails(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.pending(ruleFile("b"), time.Hour)
	f.applier.failures = []error{errors.New("busy"), errors.New("busy")}
	if _, err := f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: 2}); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "tried again") {
		t.Errorf("a revert that fails: %v, want INTERNAL and that it is tried again", err)
	}
	if _, waits := f.direct.Pending(); !waits || !f.inForce(2) {
		t.Errorf("after it: awaits %t, epoch %d in force, want 2, which still does", waits, f.engine.Rules().Epoch())
	}
	if _, err := f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: 2}); err != nil || !f.inForce(1) {
		t.Errorf("the next one: %v", err)
	}
}

// A confirmation that cannot be recorded changes nothing: it can be given again, or not.
func TestConfirmFails(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.pending(ruleFile("b"), time.Hour)
	if err := f.store.Release(); err != nil { // another daemon has it
		t.Fatal(err)
	}
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: 2}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "still awaits its confirmation, until ") {
		t.Errorf("confirming: %v, want UNAVAILABLE and that it still awaits it", err)
	}
	if p, waits := f.direct.Pending(); !waits || p.Epoch != 2 || !f.inForce(2) {
		t.Errorf("after it: %+v, awaits %t, epoch %d in force", p, waits, f.engine.Rules().Epoch())
	}
}

// A clean end leaves nothing of it in the store, and no time that could be over.
func TestCloseWhilePending(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.pending(ruleFile("b"), time.Hour)
	f.direct.Close()
	if _, waits := f.direct.Pending(); waits || !f.inForce(2) {
		t.Errorf("awaits %t, epoch %d in force, want 2 and no time", waits, f.engine.Rules().Epoch())
	}
	if err := f.store.Discard(2); err == nil {
		t.Error("the store still had it")
	}
}

func TestConfirmWithinIsBounded(t *testing.T) {
	f := newFixture(t, nil, nil)
	for _, long := range []time.Duration{0, -time.Second, MinConfirmWithin - 1, MaxConfirmWithin + 1} {
		_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("a")), ConfirmWithin: durationpb.New(long)})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("confirm within %v: %v, want INVALID_ARGUMENT", long, err)
		}
	}
	if f.engine.Rules().Epoch() != 0 {
		t.Error("one of them is in force")
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func TestLock(t *testing.T) {
	f := newFixture(t, nil, nil)
	lock := func(expected *uint64) (*controlv1.LockResponse, error) {
		return f.rules.Lock(f.ctx(), &controlv1.LockRequest{ExpectedEpoch: expected, Reason: "ticket 7"})
	}
	_, err := lock(nil)
	wantStatus(t, err, codes.NotFound, "no rules are in force")
	f.push(ruleFile("a"))
	f.push(ruleFile("b"))
	_, err = lock(proto.Uint64(1))
	wantStatus(t, err, codes.FailedPrecondition, "epoch 2 is in force, not 1")

	// What may go again by itself cannot be locked.
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("c")), ConfirmWithin: durationpb.New(MaxConfirmWithin)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = lock(nil)
	wantStatus(t, err, codes.FailedPrecondition, "epoch 3 awaits its confirmation")
	if _, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: out.GetEpoch()}); err != nil {
		t.Fatal(err)
	}

	locked, err := lock(proto.Uint64(3))
	if err != nil || locked.GetEpoch() != 3 || locked.GetLock().GetUid() != uint32(os.Getuid()) || locked.GetLock().GetReason() != "ticket 7" {
		t.Fatalf("Lock = %v, %v; want epoch 3, by us", locked, err)
	}
	kept := len(f.store.History(0))
	for name, change := range map[string]func() error{
		"push": func() error {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("d"))})
			return err
		},
		"push of the same": func() error {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("c"))})
			return err
		},
		"rollback": func() error {
			_, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1})
			return err
		},
		"push with a time": func() error {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("d")), ConfirmWithin: durationpb.New(MinConfirmWithin)})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			wantStatus(t, change(), codes.FailedPrecondition, "has locked the rules of epoch 3 at ", "until arbiterd is restarted")
		})
	}
	_, err = f.rules.Revert(f.ctx(), &controlv1.RevertRequest{Epoch: 3})
	wantStatus(t, err, codes.FailedPrecondition, "it does not await confirmation")
	if got := f.engine.Rules().Epoch(); got != 3 || len(f.store.History(0)) != kept {
		t.Errorf("epoch %d is in force and %d sets are kept, want 3 and %d", got, len(f.store.History(0)), kept)
	}

	// A look changes nothing, and locking again says by whom.
	if _, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("d")), DryRun: true}); err != nil {
		t.Errorf("a dry run: %v, want none", err)
	}
	again, err := lock(nil)
	if err != nil || !proto.Equal(again, locked) {
		t.Errorf("Lock again = %v, %v; want %v", again, err, locked)
	}
	st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil || !proto.Equal(st.GetLock(), locked.GetLock()) {
		t.Errorf("status says %v, %v; want %v", st.GetLock(), err, locked.GetLock())
	}
}

// While another daemon takes over there is nothing to lock: it would not know.
func TestLockWhileFrozen(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	if _, err := f.direct.Freeze(f.ctx()); err != nil {
		t.Fatal(err)
	}
	_, err := f.rules.Lock(f.ctx(), &controlv1.LockRequest{})
	wantStatus(t, err, codes.Unavailable, "another daemon takes over")
	f.direct.Thaw()
	if _, err := f.rules.Lock(f.ctx(), &controlv1.LockRequest{}); err != nil {
		t.Errorf("after it has gone: %v", err)
	}
	// The lock is of this process: it may hand over, and stays locked if that fails.
	if _, err := f.direct.Freeze(f.ctx()); err != nil {
		t.Errorf("Freeze of locked rules: %v, want none", err)
	}
	f.direct.Thaw()
	_, err = f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b"))})
	wantStatus(t, err, codes.FailedPrecondition, "has locked the rules")
}

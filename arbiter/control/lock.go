// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// Locked says since when the rules are locked, and by whom.
type Locked struct {
	Epoch  uint64 // in force until this process ends
	At     time.Time
	UID    uint32
	Reason string // UTF-8
}

// LockedError is the error of a change of rules that are locked.
type LockedError struct{ Locked }

// Error says what to do next.
func (e *LockedError) Error() string {
	return fmt.Sprintf("uid %d has locked the rules of epoch %d at %s UTC: nothing changes them until arbiterd is restarted",
		e.UID, e.Epoch, e.At.UTC().Format(time.DateTime))
}

// Lock keeps the rules in force as they are for as long as this process lives. There is no
// way back: whoever takes over an admin finds none either. When they are locked already it
// says by whom. The error is a *StaleError, a *PendingError, ErrFrozen, ErrNoRules, or ctx's.
func (r *Rules) Lock(ctx context.Context, expected *uint64, reason string, uid uint32) (Locked, error) {
	if err := r.begin(ctx); err != nil {
		return Locked{}, err
	}
	defer r.end()
	if l, ok := r.Locked(); ok {
		return l, nil
	}
	if r.frozen.Load() {
		return Locked{}, ErrFrozen // the other one would not know
	}
	if err := r.noPending(); err != nil {
		return Locked{}, err
	}
	if err := r.expect(expected); err != nil {
		return Locked{}, err
	}
	if r.epoch() == 0 {
		return Locked{}, ErrNoRules
	}
	l := &Locked{Epoch: r.epoch(), At: time.Now(), UID: uid, Reason: strings.ToValidUTF8(reason, "\ufffd")}
	r.locked.Store(l)
	r.cfg.Logger.Warn("the rules are locked until arbiterd ends", slog.Uint64("epoch", l.Epoch), slog.Uint64("uid", uint64(uid)), slog.String("reason", l.Reason))
	return *l, nil
}

// Locked returns who has locked the rules.
func (r *Rules) Locked() (Locked, bool) {
	if l := r.locked.Load(); l != nil {
		return *l, true
	}
	return Locked{}, false
}

// notLocked returns a LockedError if the rules are locked.
func (r *Rules) notLocked() error {
	if l, ok := r.Locked(); ok {
		return &LockedError{l}
	}
	return nil
}

func (s *rulesService) Lock(ctx context.Context, req *controlv1.LockRequest) (*controlv1.LockResponse, error) {
	who, _ := callerOf(ctx)
	l, err := s.rules.Lock(ctx, req.ExpectedEpoch, req.GetReason(), who.uid)
	if err != nil {
		return nil, pushStatus(err)
	}
	return &controlv1.LockResponse{Epoch: l.Epoch, Lock: lockMessage(l)}, nil
}

func lockMessage(l Locked) *controlv1.RulesLock {
	return &controlv1.RulesLock{LockedAt: timestamppb.New(l.At), Uid: l.UID, Reason: l.Reason}
}

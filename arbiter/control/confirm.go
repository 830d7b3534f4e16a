// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/rules"
)

// Limits of Push.ConfirmWithin.
const (
	MinConfirmWithin = time.Second
	MaxConfirmWithin = 24 * time.Hour
)

// revertAgain is how long after a failed way back the next one is tried.
const revertAgain = 5 * time.Second

// pending is a rule set that is in force until its time is over, unless somebody confirms
// it: whoever has locked himself out with it has only to wait. The store has it prepared
// and not committed, so the next start does not find it either.
type pending struct {
	meta   store.Meta
	before *rules.RuleSet // in force again afterwards
	until  time.Time
	timer  *time.Timer
}

// Pending is what status says of it.
type Pending struct {
	Epoch, Previous uint64 // Previous is in force again afterwards, 0 for none
	Until           time.Time
}

// PendingError is the error of a push while a set awaits its confirmation.
type PendingError struct{ Pending }

// Error says what to do next.
func (e *PendingError) Error() string {
	return fmt.Sprintf("epoch %d awaits its confirmation until %s: first `arbiterctl rules confirm %[1]d` or `arbiterctl rules revert %[1]d`",
		e.Epoch, e.Until.Format(time.TimeOnly))
}

// ErrNotPending is wrapped by the errors about an epoch that does not await confirmation.
var ErrNotPending = errors.New("it does not await confirmation")

// Pending returns the set that awaits its confirmation.
func (r *Rules) Pending() (Pending, bool) {
	p := r.pending.Load()
	if p == nil {
		return Pending{}, false
	}
	return p.public(), true
}

// noPending returns a PendingError if a set awaits its confirmation.
func (r *Rules) noPending() error {
	if p, ok := r.Pending(); ok {
		return &PendingError{p}
	}
	return nil
}

func (p *pending) public() Pending {
	out := Pending{Epoch: p.meta.Epoch, Until: p.until}
	if p.before != nil {
		out.Previous = p.before.Epoch()
	}
	return out
}

// await begins the time of a set that is in force; it is the push's turn.
func (r *Rules) await(meta store.Meta, before *rules.RuleSet, long time.Duration) Pending {
	p := &pending{meta: meta, before: before, until: time.Now().Add(long)}
	p.timer = time.AfterFunc(long, func() { r.expire(p) }) // by the monotonic clock
	r.pending.Store(p)
	return p.public()
}

// Confirm keeps the set of this epoch, which awaits it.
func (r *Rules) Confirm(ctx context.Context, epoch uint64, uid uint32) error {
	p, err := r.take(ctx, epoch)
	if err != nil {
		return err
	}
	defer r.end()
	if err := r.cfg.Store.Commit(epoch); err != nil {
		return r.undo(ctx, StageCommit, err, epoch, p.before)
	}
	r.cfg.Logger.Info("rules are confirmed", slog.Uint64("epoch", epoch), slog.Uint64("uid", uint64(uid)))
	return nil
}

// Revert puts the set before in force again, at once.
func (r *Rules) Revert(ctx context.Context, epoch uint64, uid uint32) (previous uint64, err error) {
	p, err := r.take(ctx, epoch)
	if err != nil {
		return 0, err
	}
	defer r.end()
	if err := r.revert(p); err != nil {
		r.pending.Store(p)
		p.timer.Reset(revertAgain)
		return 0, &StageError{Stage: StageApply, Err: err, Reverted: err}
	}
	r.cfg.Logger.Warn("rules are taken back", slog.Uint64("epoch", epoch), slog.Uint64("uid", uint64(uid)))
	return p.public().Previous, nil
}

// take begins a turn and ends the time of the set that awaits its confirmation, if it has
// this epoch.
func (r *Rules) take(ctx context.Context, epoch uint64) (*pending, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	p := r.pending.Load()
	if p == nil || p.meta.Epoch != epoch {
		r.end()
		return nil, fmt.Errorf("epoch %d: %w", epoch, ErrNotPending)
	}
	p.timer.Stop()
	r.pending.Store(nil)
	return p, nil
}

// expire ends the time of p, if nobody has.
func (r *Rules) expire(p *pending) {
	_ = r.begin(context.Background())
	defer r.end()
	if r.pending.Load() != p {
		return
	}
	if err := r.revert(p); err != nil {
		r.cfg.Logger.Error("going back to the rules before those that nobody has confirmed, trying again", slog.Uint64("epoch", p.meta.Epoch), slog.Any("error", err))
		p.timer.Reset(revertAgain)
		return
	}
	r.pending.Store(nil)
	r.cfg.Logger.Warn("nobody has confirmed the rules: those before are in force again", slog.Uint64("epoch", p.meta.Epoch), slog.Uint64("previous", p.public().Previous))
}

// revert puts the set before p in force and forgets p.
func (r *Rules) revert(p *pending) error {
	if p.before != nil && r.cfg.Engine.Rules() != p.before {
		if _, err := r.apply(context.Background(), p.before, cache.RolledBack); err != nil {
			return err
		}
	}
	if err := r.cfg.Store.Discard(p.meta.Epoch); err != nil {
		r.cfg.Logger.Warn("taking rules back from the store", slog.Uint64("epoch", p.meta.Epoch), slog.Any("error", err)) // the next start sets the file aside
	}
	return nil
}

// Close forgets the time of a set that awaits its confirmation: the store does not have
// it, so the next start begins with the one before.
func (r *Rules) Close() {
	if p := r.pending.Load(); p != nil {
		p.timer.Stop()
	}
}

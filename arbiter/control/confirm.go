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
	canary *canary // nil: it decides for all
}

// Pending is what status says of it.
type Pending struct {
	Epoch, Previous uint64 // Previous is in force again afterwards, 0 for none
	Until           time.Time
	// Canary: Previous is in force, and Epoch decides for a part.
	Canary bool
}

// PendingError is the error of a push while a set awaits its confirmation, or is a canary.
type PendingError struct{ Pending }

// Error says what to do next.
func (e *PendingError) Error() string {
	if e.Canary {
		return fmt.Sprintf("epoch %d is a canary until %s UTC: first `arbiterctl rules canary promote` or `arbiterctl rules canary abort`",
			e.Epoch, e.Until.UTC().Format(time.DateTime))
	}
	return fmt.Sprintf("epoch %d awaits its confirmation until %s UTC: first `arbiterctl rules confirm %[1]d` or `arbiterctl rules revert %[1]d`",
		e.Epoch, e.Until.UTC().Format(time.DateTime))
}

// ErrNotPending is wrapped by the errors about an epoch that does not await confirmation.
var ErrNotPending = errors.New("it does not await confirmation")

// Pending returns the set that awaits its confirmation; a canary does not.
func (r *Rules) Pending() (Pending, bool) {
	p := r.pending.Load()
	if p == nil || p.canary != nil {
		return Pending{}, false
	}
	return p.public(), true
}

// noPending returns a PendingError if a set awaits its confirmation, or is a canary.
func (r *Rules) noPending() error {
	if p := r.pending.Load(); p != nil {
		return &PendingError{p.public()}
	}
	return nil
}

func (p *pending) public() Pending {
	out := Pending{Epoch: p.meta.Epoch, Until: p.until, Canary: p.canary != nil}
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
		r.resume(p, time.Until(p.until))
		return fmt.Errorf("epoch %d still awaits its confirmation, until %s UTC: %w", epoch, p.until.UTC().Format(time.DateTime), &StageError{Stage: StageCommit, Err: err})
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
		r.resume(p, revertAgain)
		return 0, fmt.Errorf("going back to the rules before, which is tried again every %v: %w", revertAgain, err)
	}
	r.cfg.Logger.Warn("rules are taken back", slog.Uint64("epoch", epoch), slog.Uint64("uid", uint64(uid)))
	return r.epoch(), nil
}

// resume lets p wait again, for long from now.
func (r *Rules) resume(p *pending, long time.Duration) {
	r.pending.Store(p)
	p.timer.Reset(max(long, 0))
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
	if p.canary != nil {
		r.end()
		return nil, &PendingError{p.public()}
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
	if p.canary != nil {
		r.canaryOver(p)
		return
	}
	if err := r.revert(p); err != nil {
		r.problem(fmt.Sprintf("epoch %d was not confirmed, and going back fails, trying again: %v", p.meta.Epoch, err))
		p.timer.Reset(revertAgain)
		return
	}
	r.pending.Store(nil)
	r.cfg.Logger.Warn("nobody has confirmed the rules: those before are in force again", slog.Uint64("epoch", p.meta.Epoch), slog.Uint64("previous", r.epoch()))
}

// revert puts the set before p in force and forgets p. Where that cannot be put in force any
// more, because what its scope names has gone, nothing is arbitrated: to stay with rules that
// lock somebody out would be worse.
func (r *Rules) revert(p *pending) error {
	if p.before != nil && r.cfg.Engine.Rules().Whole() != p.before.Whole() {
		_, err := r.apply(context.Background(), p.before, cache.RolledBack)
		if err != nil {
			if _, none := r.apply(context.Background(), rules.Nothing(), cache.RolledBack); none != nil {
				return errors.Join(err, none)
			}
			r.problem(fmt.Sprintf("epoch %d was taken back, and the rules before cannot be put in force again: nothing is arbitrated: push rules: %v", p.meta.Epoch, err))
		}
	}
	if err := r.cfg.Store.Discard(p.meta.Epoch); err != nil {
		r.cfg.Logger.Warn("taking rules back from the store", slog.Uint64("epoch", p.meta.Epoch), slog.Any("error", err)) // the next start sets the file aside
	}
	return nil
}

// problem is logged, and what status warns of until the next push.
func (r *Rules) problem(text string) {
	r.cfg.Logger.Error(text)
	r.trouble.Store(&text)
}

// Problem returns what has gone wrong on a way back, "" for nothing.
func (r *Rules) Problem() string {
	if text := r.trouble.Load(); text != nil {
		return *text
	}
	return ""
}

// closeFor bounds how long Close waits for a change under way.
const closeFor = 2 * time.Second

// Close takes a set that awaits its confirmation, or is a canary, out of the store: the next
// start begins with the one before. No time is over any more.
func (r *Rules) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeFor)
	defer cancel()
	begun := r.begin(ctx) == nil
	p := r.pending.Swap(nil)
	if p != nil {
		p.timer.Stop()
		if p.canary != nil {
			p.canary.end("the daemon stopped", false)
		}
	}
	s := r.shadow.Load()
	if s != nil {
		s.end("the daemon stopped")
	}
	if !begun {
		return
	}
	defer r.end()
	r.clock.closed = true
	r.lookAgain(time.Time{})
	if s != nil {
		<-s.done // it pushes nothing: that would be its turn
	}
	if p != nil {
		if err := r.cfg.Store.Discard(p.meta.Epoch); err != nil {
			r.cfg.Logger.Warn("taking rules that nobody has confirmed out of the store", slog.Any("error", err))
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/rules"
)

// ErrNoCanary is of a call about a canary when none runs.
var ErrNoCanary = errors.New("no canary runs; `arbiterctl rules push FILE --canary 5% --canary-for 1h` starts one")

// CanaryError is why rules cannot be a canary beside those in force.
type CanaryError struct{ Why string }

// Error says what to do instead.
func (e *CanaryError) Error() string {
	return "no canary was started: " + e.Why + "; push them whole instead: arbiterctl rules push FILE --confirm-within 10m"
}

// canaryPart returns the part that start is about, unless rs cannot be a canary beside the
// rules in force. The kernel side has one scope and one failure verdict for all.
func (r *Rules) canaryPart(start *CanaryStart, rs *rules.RuleSet) (arbiter.Part, error) {
	live := r.inForce()
	if live == nil {
		return arbiter.Part{}, &CanaryError{"no rules are in force that it could run beside"}
	}
	if s := r.shadow.Load(); s != nil && s.running() {
		return arbiter.Part{}, ErrShadowRuns
	}
	var other []string
	for what, same := range map[string]bool{
		"scope":   reflect.DeepEqual(rs.Scope(), live.Scope()),
		"mute":    reflect.DeepEqual(rs.Mute(), live.Mute()),
		"events":  slices.Equal(rs.Events(), live.Events()),
		"on_fail": rs.Default().OnFail == live.Default().OnFail,
	} {
		if !same {
			other = append(other, what)
		}
	}
	slices.Sort(other)
	switch {
	case len(other) > 0:
		return arbiter.Part{}, &CanaryError{fmt.Sprintf("these of the file are others than in epoch %d, and hold for all: %s", live.Epoch(), strings.Join(other, ", "))}
	case rs.Timed():
		return arbiter.Part{}, &CanaryError{"some of its rules have a lifespan, an end or times, which begin with a push to all"}
	case live.Whole().Timed():
		return arbiter.Part{}, &CanaryError{fmt.Sprintf("rules of epoch %d, in force, have a lifespan, an end or times, and a change of them would end it", live.Epoch())}
	}
	if start.Cgroup == "" {
		var seed [8]byte
		_, _ = rand.Read(seed[:]) // it cannot fail
		return arbiter.Part{Share: arbiter.ShareOf(start.Percent), Seed: binary.NativeEndian.Uint64(seed[:])}, nil
	}
	if r.cfg.CgroupID == nil {
		return arbiter.Part{}, &CanaryError{"cgroups are not known here: give a percentage"}
	}
	id, err := r.cfg.CgroupID(start.Cgroup)
	if err != nil {
		return arbiter.Part{}, &CanaryError{err.Error()}
	}
	return arbiter.Part{Cgroup: id}, nil
}

// startCanary has rs decide for the part; the store has it prepared. It is the push's turn.
func (r *Rules) startCanary(p *Push, rs *rules.RuleSet, part arbiter.Part, meta store.Meta) error {
	c := newCanary(p, rs, r.inForce(), part)
	engine := r.cfg.Engine
	c.lostBefore = func() uint64 { return engine.Stats().EventsDropped }
	c.base = c.lostBefore()
	c.sub = engine.Subscribe(canaryBuffer, arbiter.SubscribeOptions{Allowed: true}) // before it decides anything
	c.started = time.Now()
	if err := r.applyCanary(&arbiter.Canary{Rules: rs, Part: part}); err != nil {
		c.sub.Close()
		failed := &StageError{Stage: StageApply, Err: err}
		if err := r.applyCanary(nil); err != nil {
			failed.Reverted = err
		}
		r.discard(meta.Epoch)
		return failed
	}
	c.until = c.started.Add(c.For)
	w := &pending{meta: meta, before: c.beside, until: c.until, canary: c}
	w.timer = time.AfterFunc(c.For, func() { r.expire(w) }) // by the monotonic clock
	r.pending.Store(w)
	r.canary.Store(c)
	go c.run(func() { w.timer.Reset(0) })
	return nil
}

// applyCanary calls the Applier with a time limit of its own.
func (r *Rules) applyCanary(c *arbiter.Canary) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.cfg.ApplyTimeout)
	defer cancel()
	return r.cfg.Applier.Canary(ctx, c)
}

// discard takes a set out of the store that was never in force for all.
func (r *Rules) discard(epoch uint64) {
	if err := r.cfg.Store.Discard(epoch); err != nil { // the next start sets the file aside
		r.cfg.Logger.Warn("taking the rules of a canary out of the store", slog.Uint64("epoch", epoch), slog.Any("error", err))
	}
}

// canaryOver ends p, whose time is over or which has passed a limit; it is its turn.
func (r *Rules) canaryOver(p *pending) {
	why := p.canary.against()
	if why == "" {
		err := r.promoteCanary(p, "by itself")
		if err == nil {
			return
		}
		why = err.Error()
	}
	if err := r.endCanary(p, why); err != nil {
		r.problem(fmt.Sprintf("the canary of epoch %d still decides for its part, ending it is tried again: %v; it ends because %s", p.meta.Epoch, err, why))
		p.timer.Reset(revertAgain)
		return
	}
	r.rolledBack.Add(1)
	r.problem(fmt.Sprintf("the canary of epoch %d was rolled back: %s", p.meta.Epoch, why))
}

// promoteCanary puts the canary in force for all. After an error it still is to be ended.
func (r *Rules) promoteCanary(p *pending, how string) error {
	if _, err := r.apply(context.Background(), p.canary.set, cache.RulesPushed); err != nil {
		return &StageError{Stage: StageApply, Err: err}
	}
	if err := r.cfg.Store.Commit(p.meta.Epoch); err != nil {
		_, back := r.apply(context.Background(), p.before, cache.RolledBack)
		return &StageError{Stage: StageCommit, Err: err, Reverted: back}
	}
	r.pending.Store(nil)
	p.canary.end(fmt.Sprintf("it was promoted %s and is in force for all", how), true)
	r.trouble.Store(nil)
	r.cfg.Logger.Info("a canary is in force for all", slog.Uint64("epoch", p.meta.Epoch), slog.String("how", how))
	return nil
}

// endCanary has the set before decide for all. After an error the canary runs still.
func (r *Rules) endCanary(p *pending, why string) error {
	if err := r.applyCanary(nil); err != nil {
		return err
	}
	r.pending.Store(nil)
	p.canary.end(why, false)
	r.discard(p.meta.Epoch)
	r.cfg.Logger.Warn("a canary has ended", slog.Uint64("epoch", p.meta.Epoch), slog.Uint64("in_force", r.epoch()), slog.String("why", why))
	return nil
}

// takeCanary begins a turn about the canary that runs.
func (r *Rules) takeCanary(ctx context.Context) (*pending, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	p := r.pending.Load()
	if p == nil || p.canary == nil {
		r.end()
		return nil, ErrNoCanary
	}
	return p, nil
}

// PromoteCanary puts the canary in force for all, before its time is over. The error is
// ErrNoCanary, or a *StageError: then it has ended.
func (r *Rules) PromoteCanary(ctx context.Context, uid uint32) error {
	p, err := r.takeCanary(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	p.timer.Stop()
	if err = r.promoteCanary(p, fmt.Sprintf("by uid %d", uid)); err == nil {
		return nil
	}
	if again := r.endCanary(p, err.Error()); again != nil {
		p.timer.Reset(revertAgain)
		return errors.Join(err, again)
	}
	return err
}

// AbortCanary has the set in force decide for all. The error is ErrNoCanary, or why it could
// not be ended, which is tried again.
func (r *Rules) AbortCanary(ctx context.Context, uid uint32) error {
	p, err := r.takeCanary(ctx)
	if err != nil {
		return err
	}
	defer r.end()
	p.timer.Stop()
	why := fmt.Sprintf("uid %d aborted it", uid)
	if err := r.endCanary(p, why); err != nil {
		p.timer.Reset(revertAgain)
		return fmt.Errorf("ending the canary, which is tried again in %v: %w", revertAgain, err)
	}
	return nil
}

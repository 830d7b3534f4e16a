// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
)

// Errors of the calls about a candidate.
var (
	// ErrShadowRuns: one is running already.
	ErrShadowRuns = errors.New("a candidate runs already: see `arbiterctl rules shadow status`, and stop it first")
	// ErrNoShadow: none is running.
	ErrNoShadow = errors.New("no candidate runs; `arbiterctl rules shadow start FILE` starts one")
	// ErrNothingBeside: there are no rules whose decisions it could be asked about.
	ErrNothingBeside = errors.New("no rules are in force that it could run beside: push some first")
)

// BlockedError says what stands against a promotion.
type BlockedError struct{ Blocks []string }

// Error lists them.
func (e *BlockedError) Error() string {
	return "the candidate is not put in force: " + strings.Join(e.Blocks, "; ")
}

// StartShadow lets a rule file run as a candidate. Nothing that is asked waits for it. The
// error is ErrShadowRuns, ErrNothingBeside, or as of Push. checked has the warnings and the
// difference that a push would tell.
func (r *Rules) StartShadow(ctx context.Context, p ShadowStart) (checked Pushed, err error) {
	if err := r.begin(ctx); err != nil {
		return Pushed{}, err
	}
	defer r.end()
	if s := r.shadow.Load(); s != nil && s.running() {
		return Pushed{}, ErrShadowRuns
	}
	live := r.inForce()
	if live == nil {
		return Pushed{}, ErrNothingBeside
	}
	if p := r.pending.Load(); p != nil && p.canary != nil {
		return Pushed{}, &PendingError{p.public()}
	}
	checked, err = r.push(ctx, Push{Source: p.Source, Signature: p.Signature, Name: p.Name, ExpectedEpoch: p.ExpectedEpoch, DryRun: true, BestEffort: p.BestEffort})
	if err != nil {
		return Pushed{}, err
	}
	set := checked.set.WithEpoch(checked.Epoch)
	if err := r.cfg.Applier.Collect(set); err != nil {
		checked.Warnings = append(checked.Warnings, fmt.Sprintf("facts that only the candidate looks at are not collected, what hangs on them cannot be told: %v", err))
	}
	s := newShadow(p, set, live)
	s.unseen = s.missing(r.cfg.Applier.Unavailable(set.Events()))
	engine := r.cfg.Engine
	s.lostBefore = func() uint64 { return engine.Stats().EventsDropped }
	s.base = s.lostBefore()
	s.sub = engine.Subscribe(shadowBuffer, arbiter.SubscribeOptions{Allowed: true})
	s.started = time.Now() // from here on its facts are collected, and nothing is decided unseen
	r.shadow.Store(s)
	go s.run(func() { r.promoteByItself(s) })
	r.cfg.Logger.Info("a candidate runs beside the rules in force", slog.Uint64("epoch", live.Epoch()), slog.String("name", p.Name),
		slog.String("fingerprint", fmt.Sprintf("%016x", set.Fingerprint())), slog.Uint64("uid", uint64(p.UID)), slog.Duration("promote_when_clean_for", p.PromoteWhenCleanFor))
	return checked, nil
}

// StopShadow ends the candidate that runs; ErrNoShadow if there is none.
func (r *Rules) StopShadow(ctx context.Context, uid uint32) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.end()
	s := r.shadow.Load()
	if s == nil || !s.running() {
		return ErrNoShadow
	}
	r.endShadow(s, fmt.Sprintf("uid %d stopped it", uid))
	return nil
}

// PromoteShadow pushes the candidate that runs, expecting the epoch that it ran beside. The
// error is ErrNoShadow, a *BlockedError unless it is forced, or as of Push.
func (r *Rules) PromoteShadow(ctx context.Context, force bool, reason string, uid uint32) (Pushed, error) {
	if err := r.begin(ctx); err != nil {
		return Pushed{}, err
	}
	defer r.end()
	s := r.shadow.Load()
	if s == nil || !s.running() {
		return Pushed{}, ErrNoShadow
	}
	if blocks := s.blocks(); len(blocks) > 0 && !force {
		return Pushed{}, &BlockedError{blocks}
	}
	if reason == "" {
		reason = s.Reason
	}
	return r.promote(ctx, s, reason, uid)
}

// promoteByItself puts a candidate in force that nothing stands against any more. What fails
// is logged, shown, and tried again.
func (r *Rules) promoteByItself(s *shadow) {
	ctx, cancel := context.WithTimeout(context.Background(), promoteEvery)
	defer cancel()
	if r.begin(ctx) != nil {
		return // a push is under way: look again
	}
	defer r.end()
	if !s.running() || len(s.blocks()) > 0 {
		return
	}
	reason := s.Reason
	if reason == "" {
		s.mu.Lock()
		reason = fmt.Sprintf("clean for %v and %d decisions as a candidate", s.PromoteWhenCleanFor, s.clean)
		s.mu.Unlock()
	}
	_, err := r.promote(context.Background(), s, reason, s.UID)
	if err == nil {
		return
	}
	s.mu.Lock()
	told := s.promotion == err.Error()
	s.promotion = err.Error()
	s.mu.Unlock()
	if !told {
		r.cfg.Logger.Error("a candidate was clean and could not be put in force, trying again", slog.Any("error", err))
	}
}

// promote pushes s; it is its turn.
func (r *Rules) promote(ctx context.Context, s *shadow, reason string, uid uint32) (Pushed, error) {
	epoch := s.beside.Epoch()
	out, err := r.push(ctx, Push{Source: s.set.Source(), Signature: s.Signature, Name: s.Name, ExpectedEpoch: &epoch, BestEffort: s.BestEffort, Reason: reason, UID: uid})
	if err != nil {
		return Pushed{}, err
	}
	r.endShadow(s, "promoted") // it has ended by the push, unless the same text was in force
	s.setEnded(fmt.Sprintf("it was promoted and is epoch %d", out.Epoch), out.Epoch)
	return out, nil
}

// endShadow ends s if it runs, and the collecting of its facts; nil: it did not run. It is
// the caller's turn.
func (r *Rules) endShadow(s *shadow, why string) *shadow {
	if s == nil || !s.running() {
		return nil
	}
	s.end(why)
	if err := r.cfg.Applier.Collect(nil); err != nil {
		r.cfg.Logger.Warn("going back to the facts of the rules in force alone", slog.Any("error", err))
	}
	r.cfg.Logger.Info("the candidate has ended", slog.String("name", s.Name), slog.String("why", why))
	return s
}

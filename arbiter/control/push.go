// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Rules changes which rule set is in force. The daemon uses it at the start and
// for a reload, the control interface for everything else. All methods may be
// called concurrently; changes are made one after another.
type Rules struct {
	cfg  RulesConfig
	turn chan struct{} // one place, taken for a whole push

	frozen     atomic.Bool            // changed in its turn
	locked     atomic.Pointer[Locked] // set in its turn, for good
	pending    atomic.Pointer[pending]
	canary     atomic.Pointer[canary] // the one that runs, or the last one; nil: there was none
	rolledBack atomic.Uint64          // canaries that were rolled back by themselves
	trouble    atomic.Pointer[string] // on a way back
	clock      clock
	shadow     atomic.Pointer[shadow] // the candidate that runs, or the last one; nil: there was none
}

// NewRules checks the whole configuration.
func NewRules(cfg RulesConfig) (*Rules, error) {
	if cfg.Engine == nil || cfg.Applier == nil || cfg.Store == nil {
		return nil, errors.New("configuring the rules: Engine, Applier and Store are required")
	}
	if cfg.ApplyTimeout == 0 {
		cfg.ApplyTimeout = DefaultApplyTimeout
	}
	if cfg.Load == nil {
		cfg.Load = func(_ context.Context, name string, src []byte, o rules.Options) (*rules.RuleSet, error) {
			return rules.Load(name, src, o)
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Rules{cfg: cfg, turn: make(chan struct{}, 1)}
	r.clock.init()
	return r, nil
}

// begin waits for the pushes before this one, no longer than ctx; end lets the
// next one in.
func (r *Rules) begin(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for the push before this one: %w", ctx.Err())
	}
}

func (r *Rules) end() { <-r.turn }

// Freeze waits for the pushes under way, no longer than ctx, and refuses all others with
// ErrFrozen until Thaw. It returns the epoch in force, 0 for none.
func (r *Rules) Freeze(ctx context.Context) (uint64, error) {
	if err := r.begin(ctx); err != nil {
		return 0, err
	}
	defer r.end()
	if err := r.noPending(); err != nil {
		return 0, err
	}
	if _, locked := r.Locked(); locked {
		r.cfg.Logger.Warn("the rules are locked here, and will not be when the other daemon has taken over")
	}
	r.frozen.Store(true)
	return r.epoch(), nil
}

// Thaw ends Freeze.
func (r *Rules) Thaw() { r.frozen.Store(false) }

// Push is a rule file on its way.
type Push struct {
	Source []byte
	// Signature is the file of minisign for Source, nil for none.
	Signature []byte
	Name      string
	// ExpectedEpoch, if not nil, must be in force, else the push is refused.
	ExpectedEpoch *uint64
	DryRun        bool
	// BestEffort puts the rules in force also where some of their events are not asked
	// about.
	BestEffort bool
	// ConfirmWithin, if not 0, has the rules before in force again after that time unless
	// Confirm came, and after a restart.
	ConfirmWithin time.Duration
	// Canary, if not nil, has the rules decide for a part of the processes only, for a time.
	// Not with ConfirmWithin.
	Canary *CanaryStart
	Reason string // for the history
	UID    uint32 // who pushes
	// Flush labels the flush of the verdict caches; the zero value means
	// cache.RulesPushed.
	Flush cache.Reason

	rollbackOf uint64
}

// Pushed is what became of it.
type Pushed struct {
	// Epoch is in force now; of a dry run the one that it would have got.
	Epoch       uint64
	Previous    uint64
	Fingerprint uint64
	Rules       int
	Warnings    []string
	Diff        rules.Diff
	// Unchanged: the text was in force already and nothing was done.
	Unchanged bool
	ConfirmBy time.Time // zero: it stays
	// KeyID and Serial are of the signature; empty and 0 without one.
	KeyID  string
	Serial uint64

	set *rules.RuleSet // what was compiled
}

// Push puts a rule file in force and returns when every worker decides by it.
// It is all or nothing: after an error the rule set from before is in force, in
// the engine and in the store. The error is a rules.Problems, a *StaleError, a
// *StageError, a *PendingError, a *LockedError, a *CanaryError, a *signature.Error, ErrFrozen, or ctx's when it ended before anything was changed; from then on
// ctx is not looked at any more, so a caller that goes away leaves no half push.
func (r *Rules) Push(ctx context.Context, p Push) (Pushed, error) {
	if err := r.begin(ctx); err != nil {
		return Pushed{}, err
	}
	defer r.end()
	return r.push(ctx, p)
}

// Rollback pushes the text of an older epoch as a new one; errors as for Push,
// or one that wraps ErrEpochNotKept. Source, Signature, Name, DryRun and Flush are ignored.
func (r *Rules) Rollback(ctx context.Context, epoch uint64, p Push) (Pushed, error) {
	if err := r.begin(ctx); err != nil {
		return Pushed{}, err
	}
	defer r.end()
	if err := r.expect(p.ExpectedEpoch); err != nil {
		return Pushed{}, err
	}
	m, source, err := r.load(epoch)
	if err != nil {
		return Pushed{}, err
	}
	p.Source, p.Signature, p.Name, p.DryRun, p.Flush, p.rollbackOf = source, m.Signature, m.Name, false, cache.RolledBack, epoch
	if p.Reason == "" {
		p.Reason = fmt.Sprintf("rollback to epoch %d", epoch)
	}
	return r.push(ctx, p)
}

// EditSet changes a set of the rules in force and pushes them; errors as for Push, or one that
// wraps rules.ErrNoSet, ErrNoRules or ErrEdit. Source, Signature and Name of p are ignored: the edited
// text is signed by nobody.
func (r *Rules) EditSet(ctx context.Context, edit rules.SetEdit, p Push) (Pushed, error) {
	if err := r.begin(ctx); err != nil {
		return Pushed{}, err
	}
	defer r.end()
	if err := r.open(p); err != nil { // before a large file is read and changed for nothing
		return Pushed{}, err
	}
	live := r.inForce()
	if live == nil {
		return Pushed{}, ErrNoRules
	}
	source, err := rules.EditSet(live.Source(), edit)
	if err != nil {
		return Pushed{}, fmt.Errorf("%w: %w", ErrEdit, err)
	}
	p.Source, p.Signature, p.Name, p.BestEffort = source, nil, live.Name(), true // what is not kept was known before
	if p.Reason == "" {
		p.Reason = "set " + edit.Name
	}
	return r.push(ctx, p)
}

// open says why nothing can be pushed now, nil when it can.
func (r *Rules) open(p Push) error {
	if r.frozen.Load() {
		return ErrFrozen
	}
	if err := r.notLocked(); err != nil && !p.DryRun {
		return err
	}
	if err := r.noPending(); err != nil && !p.DryRun {
		return err
	}
	return r.expect(p.ExpectedEpoch)
}

// push does the work; it is its turn.
func (r *Rules) push(ctx context.Context, p Push) (Pushed, error) {
	if err := r.open(p); err != nil {
		return Pushed{}, err
	}
	if p.Flush == cache.Start {
		p.Flush = cache.RulesPushed
	}
	p.Name, p.Reason = strings.ToValidUTF8(p.Name, "\ufffd"), strings.ToValidUTF8(p.Reason, "\ufffd")
	signed, unsure, err := r.signed(&p)
	if err != nil {
		return Pushed{}, err
	}
	st := r.cfg.Store
	epoch := st.Next()
	rs, err := r.compile(ctx, &p, epoch)
	if err != nil {
		return Pushed{}, err
	}
	cannot := r.cfg.Applier.Unavailable(rs.Events())
	if !p.BestEffort {
		if ps := rs.Unkept(cannot); len(ps) > 0 {
			return Pushed{}, &StageError{Stage: StageCheck, Err: &UnkeptError{ps}}
		}
	}
	before := r.cfg.Engine.Rules()
	out := Pushed{Epoch: epoch, Fingerprint: rs.Fingerprint(), Rules: rs.Len(), Diff: rules.Compare(before, rs), Warnings: rs.UnkeptWarnings(cannot),
		KeyID: signed.KeyID, Serial: signed.Serial, set: rs}
	if unsure != "" {
		out.Warnings = append(out.Warnings, unsure)
	}
	if before != nil {
		out.Previous = before.Epoch()
		if before.SameSource(rs) && !bound(rs) && r.recorded(before.Epoch()) && r.alsoSigned(signed) && !r.cfg.Applier.Moved(before) {
			out.Epoch, out.Unchanged = before.Epoch(), true
			return out, nil
		}
	}
	warnings, err := r.cfg.Applier.Check(ctx, rs)
	if err != nil {
		return Pushed{}, &StageError{Stage: StageCheck, Err: err}
	}
	var part arbiter.Part
	if p.Canary != nil {
		if part, err = r.canaryPart(p.Canary, rs); err != nil {
			return Pushed{}, err
		}
	}
	now := time.Now()
	out.Warnings = append(append(out.Warnings, warnings...), rs.Over(rules.Moment{Now: now, PushedAt: now})...)
	if p.DryRun {
		return out, nil
	}
	if err := ctx.Err(); err != nil {
		return Pushed{}, fmt.Errorf("pushing rules: %w", err)
	}
	meta := store.Meta{Epoch: epoch, Fingerprint: rs.Fingerprint(), PushedAt: now, Boot: r.clock.boot, UID: p.UID,
		Reason: p.Reason, Name: p.Name, Rules: rs.Len(), RollbackOf: p.rollbackOf}
	if signed.Serial != 0 {
		meta.KeyID, meta.Serial, meta.Signature = signed.KeyID, signed.Serial, p.Signature
	}
	if err := st.Prepare(meta, p.Source); err != nil {
		return Pushed{}, &StageError{Stage: StageStore, Err: err}
	}
	r.remember(epoch, now)
	if p.Canary != nil {
		if err := r.startCanary(&p, rs, part, meta); err != nil {
			return Pushed{}, err
		}
		r.trouble.Store(nil)
		r.cfg.Logger.Info("a canary decides for a part of the processes", "epoch", epoch, "in_force", out.Previous, "percent", p.Canary.Percent,
			"cgroup", p.Canary.Cgroup, "for", p.Canary.For.String(), "uid", p.UID, "name", p.Name, "reason", p.Reason)
		return out, nil
	}
	warnings, err = r.apply(ctx, rs, p.Flush)
	if err != nil {
		return Pushed{}, r.undo(ctx, StageApply, err, epoch, before)
	}
	if p.ConfirmWithin > 0 {
		out.ConfirmBy = r.await(meta, before, p.ConfirmWithin).Until
	} else if err := st.Commit(epoch); err != nil {
		return Pushed{}, r.undo(ctx, StageCommit, err, epoch, before)
	}
	r.trouble.Store(nil)
	for _, w := range warnings {
		if !slices.Contains(out.Warnings, w) {
			out.Warnings = append(out.Warnings, w)
		}
	}
	log := r.cfg.Logger
	if p.ConfirmWithin > 0 {
		log = log.With("confirm_within", p.ConfirmWithin.String())
	}
	if signed.Serial != 0 {
		log = log.With("key", signed.KeyID, "serial", signed.Serial)
	}
	log.Info("rules are in force", "epoch", epoch, "previous", out.Previous, "fingerprint", fmt.Sprintf("%016x", out.Fingerprint),
		"rules", out.Rules, "uid", p.UID, "name", p.Name, "reason", p.Reason, "warnings", len(out.Warnings))
	return out, nil
}

// compile compiles the rules of a push.
func (r *Rules) compile(ctx context.Context, p *Push, epoch uint64) (*rules.RuleSet, error) {
	rs, err := r.cfg.Load(ctx, p.Name, p.Source, rules.Options{Epoch: epoch, CgroupID: r.cfg.CgroupID, Program: r.cfg.Program})
	if problems := (rules.Problems)(nil); err != nil && ctx.Err() == nil && !errors.As(err, &problems) {
		return nil, &StageError{Stage: StageCompile, Err: err}
	}
	return rs, err
}

// expect compares the epoch in force with what the pusher believes.
func (r *Rules) expect(expected *uint64) error {
	if current := r.epoch(); expected != nil && *expected != current {
		return &StaleError{Expected: *expected, Current: current}
	}
	return nil
}

// inForce returns the rule set in force, nil for none: that of epoch 0, with which
// the daemon starts, was given by nobody.
func (r *Rules) inForce() *rules.RuleSet {
	if rs := r.cfg.Engine.Rules(); rs != nil && rs.Epoch() != 0 {
		return rs
	}
	return nil
}

// metaOf returns what was recorded of the set in force, also of one that awaits its
// confirmation.
func (r *Rules) metaOf(inForce *rules.RuleSet) (store.Meta, bool) {
	if p := r.pending.Load(); p != nil && p.meta.Epoch == inForce.Epoch() {
		return p.meta, true
	}
	m, ok := r.cfg.Store.Current()
	return m, ok && m.Epoch == inForce.Epoch()
}

// epoch returns the epoch in force, 0 for none.
func (r *Rules) epoch() uint64 {
	if rs := r.inForce(); rs != nil {
		return rs.Epoch()
	}
	return 0
}

// recorded reports whether the store has epoch as the one in force: what is in
// force by other means than a push is not kept over a restart, so pushing the
// same text is no idle deed.
func (r *Rules) recorded(epoch uint64) bool {
	m, ok := r.cfg.Store.Current()
	return ok && m.Epoch == epoch
}

// bound reports whether the compiled rules depend on the machine's state, so
// that the same text can mean something else now: cgroups and programs are looked up once.
func bound(rs *rules.RuleSet) bool {
	return slices.ContainsFunc(rs.Events(), func(e abi.Event) bool { return rs.Consulted(e)&(abi.FieldCgroup|abi.FieldTree) != 0 })
}

// apply calls the Applier with a time limit of its own, with the rules whose time it is.
func (r *Rules) apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) ([]string, error) {
	// A candidate is about the set beside which it was started.
	why := fmt.Sprintf("epoch %d was put in force instead of epoch %d", rs.Epoch(), r.epoch())
	if reason == cache.TimeCame {
		why = fmt.Sprintf("rules of epoch %d have begun or ceased to count", rs.Epoch())
	}
	ended := r.endShadow(r.shadow.Load(), why)
	at, next := rs.At(r.moment(rs)) // which takes its time where there are many rules
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.ApplyTimeout)
	defer cancel()
	warnings, err := r.cfg.Applier.Apply(ctx, at, reason)
	if err == nil {
		r.lookAgain(next)
	} else if ended != nil {
		ended.setEnded(fmt.Sprintf("epoch %d was to be put in force, which failed", rs.Epoch()), 0)
	}
	return warnings, err
}

// undo makes good a push that failed after it was stored: the set from before is
// in force again, and the store does not have the new one.
func (r *Rules) undo(ctx context.Context, stage Stage, cause error, epoch uint64, before *rules.RuleSet) error {
	failed := &StageError{Stage: stage, Err: cause}
	// The Applier has gone back by itself when it was it that failed; look.
	if now := r.cfg.Engine.Rules(); before != nil && now.Whole() != before.Whole() {
		if _, err := r.apply(ctx, before, cache.RolledBack); err != nil {
			failed.Reverted = err
			r.cfg.Logger.Error("going back to the rules before a failed push", "epoch", epoch, "error", err)
		}
	}
	if err := r.cfg.Store.Discard(epoch); err != nil {
		// Not the pusher's trouble: the next start sets the file aside.
		r.cfg.Logger.Warn("taking back the rules of a failed push", "epoch", epoch, "error", err)
	}
	return failed
}

// size returns how many bytes the text of a rule set has, without unpacking it; nil for the one
// in force. 0 bytes: it is not known here.
func (r *Rules) size(epoch *uint64) (of uint64, bytes int) {
	if live := r.inForce(); live != nil && (epoch == nil || *epoch == live.Epoch()) {
		return live.Epoch(), live.SourceLen()
	}
	if p := r.pending.Load(); epoch != nil && p != nil && p.canary != nil && p.meta.Epoch == *epoch {
		return *epoch, p.canary.set.SourceLen()
	}
	for _, m := range r.cfg.Store.History(0) {
		if epoch != nil && m.Epoch == *epoch {
			return m.Epoch, m.Size
		}
	}
	return 0, 0
}

// load returns a kept rule set, or the canary.
func (r *Rules) load(epoch uint64) (store.Meta, []byte, error) {
	if p := r.pending.Load(); p != nil && p.canary != nil && p.meta.Epoch == epoch {
		return p.meta, p.canary.set.Source(), nil
	}
	m, source, err := r.cfg.Store.Load(epoch)
	if errors.Is(err, store.ErrNotFound) {
		return m, nil, fmt.Errorf("epoch %d: %w; see `arbiterctl rules history` for those that are", epoch, ErrEpochNotKept)
	}
	return m, source, err
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// firstRules puts the stored set in force, else the rule file of the configuration. A
// stored set that cannot be kept here leaves the daemon without scope and says so:
// one that does not start could not be given a better set.
func (d *daemon) firstRules(ctx context.Context) error {
	meta, ok := d.store.Current()
	if !ok {
		if d.cfg.Rules == "" {
			d.log.Warn("no rules yet, so nothing is arbitrated; push a set: arbiterctl rules push FILE")
			return nil
		}
		text, err := readRules(d.cfg.Rules)
		if err != nil {
			return err
		}
		return d.pushFile(ctx, text, "first start")
	}
	rs := d.engine.Rules()
	var err error
	if rs.Epoch() != meta.Epoch { // else it was put in force beside the old daemon
		rs, err = d.applyStored(ctx, meta.Epoch)
	}
	if ctx.Err() != nil {
		return fmt.Errorf("starting: %w", ctx.Err())
	}
	if err != nil {
		d.warn("starting without rules", fmt.Sprintf("the stored rule set of epoch %d is not in force, nothing is arbitrated: %v; push one that can be kept", meta.Epoch, err))
		return nil
	}
	if err := d.rules.Watch(ctx); err != nil {
		return err
	}
	if text := d.compareFile(rs); text != "" {
		d.warn("the rule file is not in force", text)
	}
	return nil
}

// warn logs what is wrong with the choice of rules, and has status show it until the
// next push.
func (d *daemon) warn(msg, problem string) {
	d.problem.Store(&problem)
	d.log.Warn(msg, slog.String("problem", problem))
}

// applyStored puts a set of the store in force.
func (d *daemon) applyStored(ctx context.Context, epoch uint64) (*rules.RuleSet, error) {
	meta, source, err := d.store.Load(epoch)
	if err != nil {
		return nil, err
	}
	if err := d.verifyStored(meta, source); err != nil {
		return nil, err
	}
	rs, err := rules.Load(meta.Name, source, rules.Options{Epoch: epoch, CgroupID: kernelbridge.CgroupID, Program: findProgram})
	if err != nil {
		return nil, err
	}
	rs, _ = rs.At(control.StoredMoment(meta))
	ctx, cancel := context.WithTimeout(ctx, control.DefaultApplyTimeout)
	defer cancel()
	warnings, err := d.Apply(ctx, rs, cache.Start)
	d.logLimits(warnings)
	return rs, err
}

// verifyStored checks the signature of a set of the store, if it has or needs one.
func (d *daemon) verifyStored(meta store.Meta, source []byte) error {
	_, warning, err := d.trust().Stored(meta, source)
	if warning != "" {
		d.log.Warn("the stored rules are in force as unsigned", slog.String("warning", warning))
	}
	return withNext(err)
}

// pushFile pushes the contents of the rule file and remembers how that went.
func (d *daemon) pushFile(ctx context.Context, text signedFile, reason string) error {
	out, err := d.rules.Push(ctx, control.Push{Source: text.source, Signature: text.signature, Name: d.cfg.Rules, Reason: reason, UID: uint32(os.Getuid()), Flush: cache.Reloaded})
	var waits *control.PendingError
	var locked *control.LockedError
	if !errors.As(err, &waits) && !errors.As(err, &locked) && !errors.Is(err, control.ErrFrozen) { // else the next SIGHUP tries again
		d.file.read(text, d.engine.Rules().Epoch(), err != nil)
	}
	d.logLimits(out.Warnings)
	return withNext(err)
}

// logLimits logs what a push would have told its caller.
func (d *daemon) logLimits(warnings []string) {
	for _, w := range warnings {
		d.log.Warn("not all of the rules in force can be relied on", slog.String("warning", w))
	}
}

// reload does what SIGHUP asks for: the verdict log is opened anew, the trusted keys are
// read again, and the rule file is pushed, if it has changed. What goes wrong is logged and changes nothing.
func (d *daemon) reload(ctx context.Context) {
	if d.audit != nil {
		if err := d.audit.Reopen(); err != nil {
			d.log.Error("reopening the verdict log", slog.Any("error", err))
		}
	}
	d.rereadKeys(ctx)
	if d.cfg.Rules == "" {
		return
	}
	text, err := readRules(d.cfg.Rules)
	if err == nil && d.file.settled(text, d.engine.Rules().Epoch()) {
		d.log.Info("the rule file is unchanged: not pushed; arbiterctl rules push puts it in force", slog.String("file", d.cfg.Rules))
		return
	}
	if err == nil {
		err = d.pushFile(ctx, text, "reload")
	}
	if err != nil {
		d.log.Error("reloading the rule file; the rules in force stay", slog.Any("error", err))
		return
	}
	d.log.Info("reloaded the rule file", slog.Uint64("epoch", d.engine.Rules().Epoch()))
}

// check says what stands against a rule set, and what of it will be kept otherwise than
// written.
func (d *daemon) check(rs *rules.RuleSet) ([]string, error) {
	warnings, err := d.backend.check(rs)
	return append(warnings, contentWarnings(rs, d.cfg.Scanner.Clamd != "", d.backend.wait())...), err
}

// Check implements control.Applier.
func (d *daemon) Check(_ context.Context, rs *rules.RuleSet) ([]string, error) {
	return d.check(rs)
}

// Unavailable implements control.Applier.
func (d *daemon) Unavailable(asked []abi.Event) map[abi.Event]string {
	return d.backend.Unavailable(asked)
}

// Moved implements control.Applier.
func (d *daemon) Moved(rs *rules.RuleSet) bool { return d.backend.moved(rs) }

// Collect implements control.Applier. What is asked about, by whom and where stays as it is.
func (d *daemon) Collect(also *rules.RuleSet) error {
	if also == nil && !d.collecting {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), control.DefaultApplyTimeout)
	defer cancel()
	p := policyOf(d.engine.Rules()).again()
	if also == nil {
		// Records stop to tell of its process trees before their marks are given to others:
		// else the marks are kept, until the next candidate or push.
		err := d.tell(ctx, nil)
		if err == nil {
			err = d.backend.configure(p)
		}
		if err != nil {
			return fmt.Errorf("having the kernel side collect no more: %w", err)
		}
		d.collecting = false
		return nil
	}
	if err := d.backend.configure(p.collecting(also)); err != nil {
		return fmt.Errorf("having the kernel side collect more: %w", err)
	}
	d.collecting = true
	return d.tell(ctx, also)
}

// tell has records tell of the process trees that another set names, nil for none.
func (d *daemon) tell(ctx context.Context, also *rules.RuleSet) error {
	live := d.engine.Rules()
	telling, err := d.backend.telling(live, also)
	if err != nil || telling == live {
		return err
	}
	return d.engine.Install(ctx, telling, cache.Told)
}

// Apply implements control.Applier. The kernel side fetches the facts of both sets
// before the workers decide by the new one, and gets the new scope afterwards: at no
// moment does a rule lack a fact, and nothing outside both scopes is asked about.
func (d *daemon) Apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) ([]string, error) {
	if d.hurry.Err() != nil {
		return nil, errors.New("the daemon is stopping")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.hurry, cancel)()
	var warnings []string
	before := d.engine.Rules().Telling(nil, nil, 0)
	was, next := policyOf(before), policyOf(rs)
	// The same set, at another time: what its scope names was looked up when it was pushed, and
	// need not be there any more.
	same := rs.Whole() == before.Whole()
	if same {
		next = next.again()
	} else if rs.Epoch() != 0 { // else it is nothing, which every backend can keep
		var err error
		if warnings, err = d.check(rs); err != nil {
			return nil, err
		}
	}
	if both := was.alsoFor(next); both.want != was.want || len(both.trees) != len(was.trees) {
		if err := d.backend.configure(both); err != nil {
			return nil, err
		}
	}
	rs, err := d.backend.marked(rs)
	if err == nil {
		err = d.engine.Install(ctx, rs, reason)
	}
	if err == nil {
		err = d.backend.configure(next)
	}
	if err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		return nil, errors.Join(err, d.engine.Install(undo, before, cache.RolledBack), d.backend.configure(was.again()))
	}
	d.collecting = false
	if same {
		return nil, nil
	}
	// A push has asked for best effort, and a stored set is better kept in part than not
	// at all.
	for _, w := range append(rs.UnkeptWarnings(d.Unavailable(rs.Events())), d.backend.warnings()...) {
		if !slices.Contains(warnings, w) {
			warnings = append(warnings, w)
		}
	}
	d.problem.Store(nil)
	d.limits.Store(&warnings)
	return warnings, nil
}

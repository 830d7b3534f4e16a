// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/fanotify"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
	"github.com/arbiterd/arbiter/rules"
)

// backend is a kernel side as the daemon uses it.
type backend interface {
	// sources returns one source per worker.
	sources() []arbiter.Source
	// wait returns how long a task is held at most before the kernel side gives it
	// the failure verdict.
	wait() time.Duration
	// waits says in words how a task waits for the answer about an event, "" when it is
	// not known.
	waits(e abi.Event) string
	// check says what stands against a rule set, and what of it will be kept
	// otherwise than written. It changes nothing.
	check(rs *rules.RuleSet) (warnings []string, err error)
	// Unavailable returns those of the events that cannot be asked about, and for each
	// one why.
	Unavailable(asked []abi.Event) map[abi.Event]string
	// moved reports whether what the scope and the mute in force, those of rs, name is
	// another thing by now.
	moved(rs *rules.RuleSet) bool
	// warnings says what cannot be relied on with the scope in force.
	warnings() []string
	// problems says what is wrong with the kernel side now.
	problems() []string
	// configure puts a scope, facts to fetch and failure verdicts in force; on an
	// error everything is as before.
	configure(p policy) error
	// marked returns rs with the marks that the policy in force, which is also for it, gives
	// the process trees that it names.
	marked(rs *rules.RuleSet) (*rules.RuleSet, error)
	// telling returns rs, whose records tell of the process trees that also names, which the
	// policy in force is for, too; nil for none.
	telling(rs, also *rules.RuleSet) (*rules.RuleSet, error)
	// watch says whether somebody wants to be told of plain allows: then the kernel side
	// gives none by itself.
	watch(on bool)
	// mutes returns what is left alone unless the rules say otherwise.
	mutes() []control.DefaultMute
	// protect has p protect the backend's maps, programs and processes, and those that
	// come later.
	protect(p *kernelbridge.Protection) error
	// bury ends the hooks that outlived dead daemons, and returns how many had left some.
	bury() (int, error)
	// exemptPeer lets the daemon at the other side of an exchange go unasked; 0 ends it.
	exemptPeer(pid int) error
	// drain stops asking and returns when who has asked is answered, or with an error when
	// ctx ends first. The workers run. It may be called more than once.
	drain(ctx context.Context) error
	// execSelf calls start, which executes the daemon's own file: nobody is asked about that.
	execSelf(start func() error) error
	// counters returns the kernel side's counters by name.
	counters() map[string]uint64
	// close lets go of everything; held tasks go on.
	close() error
}

// openBackend opens the backend that Choose picked. onFailure is told of failure
// verdicts that the kernel side gives by itself.
func openBackend(name string, cfg *config, cpus []int, onFailure func(arbiter.Event), log *slog.Logger) (backend, error) {
	switch name {
	case kernelbridge.BackendLSM:
		return openLSM(cfg, cpus, onFailure, log)
	case kernelbridge.BackendFanotify:
		return openFanotify(cfg, onFailure, log)
	}
	return nil, fmt.Errorf("opening the backend: BUG: %q is none", name)
}

// lsmBackend is BPF LSM.
type lsmBackend struct {
	lsm   *kernelbridge.LSM
	guard *keeper       // nil when switched off, and where nobody sleeps
	pins  string        // where hooks of dead daemons may be
	poll  time.Duration // bound of the wait of a task that keeps its CPU
	rungs rungs
	sets  ruleSets // whose rules the kernel side decides by
}

func openLSM(cfg *config, cpus []int, onFailure func(arbiter.Event), log *slog.Logger) (backend, error) {
	b := &lsmBackend{poll: time.Duration(cfg.Wait)}
	o := kernelbridge.LSMOptions{CPUs: cpus, Wait: b.poll, Logger: log,
		OnFailure: func(f *abi.Failure) { onFailure(b.sets.name(f)) }}
	b.pins = cfg.SurvivePins
	if cfg.Survive == surviveClosed {
		o.Survive = &kernelbridge.Survive{Dir: cfg.SurvivePins, Errno: uint16(unix.EPERM), Rescue: cfg.Rescue, BreakGlass: cfg.BreakGlass}
	}
	if cfg.Guard {
		k, err := startGuard(log)
		if err != nil {
			return nil, err
		}
		b.guard, o.Beat = k, k.beat
	}
	hooks, err := kernelbridge.RunningHooks()
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	b.rungs = newRungs(hooks)
	if b.lsm, err = kernelbridge.OpenLSM(o); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if why := b.lsm.NoGate(); why != nil {
		// A task that polls has its bound in the kernel: nobody has to be killed for it.
		log.Info("tasks that wait keep their CPU", slog.Any("why", why))
		if b.guard != nil {
			if err := b.guard.close(); err != nil {
				return nil, errors.Join(err, b.close())
			}
			b.guard = nil
		}
	}
	if b.guard != nil {
		if err := b.lsm.ExemptGuard(b.guard.pid()); err != nil {
			return nil, errors.Join(err, b.close())
		}
		// Its exec is not asked about: it is a child of the daemon's.
		b.guard.run(func(start func() error) error { return start() }, b.lsm.ExemptGuard)
	}
	b.lsm.Arm(true) // without a scope the hooks ask nothing yet
	return b, nil
}

func startGuard(log *slog.Logger) (*keeper, error) {
	k, err := newKeeper(func() (pulse, error) { return guard.Start(guard.Options{}) }, log)
	if err != nil {
		return nil, fmt.Errorf("starting the guard: %w; set guard: false to do without", err)
	}
	return k, nil
}

// failureEvent turns a failure verdict of the kernel side into a record.
func failureEvent(f *abi.Failure) arbiter.Event {
	e := arbiter.Event{Event: f.Event, Access: f.Access, Verdict: "allow", Errno: f.Verdict.Errno, Reason: f.Reason,
		TGID: f.TGID, TID: f.TID, UID: f.UID, GID: f.GID, StartBoottime: f.StartBoottime,
		Comm: unix.ByteSliceToString(f.Comm[:]), Path: string(f.Path()), Dev: f.Dev, Ino: f.Ino,
		Detail: string(f.Detail()), Args: f.Arg, EUID: f.EUID, EGID: f.EGID, Flags: f.Flags, Cgroup: f.Cgroup}
	if f.Reason == abi.ReasonNone {
		e.Facts = f.Have // of a failure nobody asks: it is no decision
	}
	if !f.Verdict.Allowed() {
		e.Verdict = "deny"
	}
	return e
}

func (b *lsmBackend) sources() (s []arbiter.Source) {
	for _, src := range b.lsm.Sources() {
		s = append(s, src)
	}
	return s
}

// waits implements backend.
func (b *lsmBackend) waits(e abi.Event) string {
	return b.rungs.waits(e, b.lsm.NoGate() == nil && !b.lsm.GateLost())
}

// execSelf implements backend: the hooks let an exec of a child of the daemon's go.
func (b *lsmBackend) execSelf(start func() error) error { return start() }

// wait implements backend. A task that sleeps waits for as long as its rule says.
func (b *lsmBackend) wait() time.Duration {
	if b.lsm.NoGate() == nil {
		return rules.MaxDeadline
	}
	return b.poll
}

func (b *lsmBackend) check(rs *rules.RuleSet) ([]string, error) {
	return append(failureWarnings(rs, "wait", b.wait()), b.rungs.warnings(rs.Events())...), errors.Join(checkLSMScope(rs), b.checkOwners(rs))
}

// checkOwners refuses rules that look at the owner, the group or the mode of a file where the first two
// are not known of any.
func (b *lsmBackend) checkOwners(rs *rules.RuleSet) error {
	for _, e := range rs.Events() {
		if rs.Consulted(e)&abi.FieldAttributes != 0 {
			return b.lsm.OwnersUnknown()
		}
	}
	return nil
}

// Unavailable implements backend. Programs that the events need are loaded for it.
func (b *lsmBackend) Unavailable(asked []abi.Event) map[abi.Event]string {
	cannot := map[abi.Event]string{}
	for e, err := range b.lsm.Unavailable(bitsOf(asked)) {
		cannot[e] = err.Error()
	}
	return cannot
}

func (b *lsmBackend) moved(rs *rules.RuleSet) bool {
	scope, err := lsmScope("scope", rs.Scope())
	mute, noMute := lsmMute(rs.Mute())
	return errors.Join(err, noMute) != nil || b.lsm.Moved(scope, mute)
}

func (b *lsmBackend) warnings() []string { return nil }

func (b *lsmBackend) protect(p *kernelbridge.Protection) error {
	return errors.Join(p.ProtectLSM(b.lsm), b.guard.protectBy(p.ProtectProcess))
}

func (b *lsmBackend) problems() []string {
	var out []string
	if b.lsm.GateLost() {
		out = append(out, "the gate has gone and none stays: tasks that wait keep their CPU; restart the daemon")
	}
	if n := b.lsm.GateRefused(); n > 0 {
		out = append(out, fmt.Sprintf("another LSM has refused tasks that wait the gate, %d times since the start: they poll, no longer than wait; "+
			"with SELinux, allow their domains to read files of fusefs_t (ausearch -m avc shows which)", n))
	}
	if b.guard != nil {
		out = append(out, b.guard.problems()...)
	}
	return out
}

func (b *lsmBackend) configure(p policy) error {
	next := kernelbridge.Policy{Asked: p.asked, Want: p.want, Rules: p.kernel, Keep: p.keep, OnFail: p.onFail, Sleep: p.sleep, Trees: p.trees}
	if p.scopeStays {
		if err := b.lsm.SetPolicy(next); err != nil {
			return err
		}
		b.sets.add(b.lsm.Epoch(), p.set)
		return nil
	}
	scope, err := lsmScope("scope", p.scope)
	var noMute error
	if next.Mute, noMute = lsmMute(p.mute); err != nil || noMute != nil {
		return errors.Join(err, noMute)
	}
	if err := b.lsm.Configure(scope, next); err != nil {
		return err
	}
	b.sets.add(b.lsm.Epoch(), p.set)
	return nil
}

// marked implements backend.
func (b *lsmBackend) marked(rs *rules.RuleSet) (*rules.RuleSet, error) {
	if len(rs.Trees()) == 0 {
		return rs, nil
	}
	bits, since, err := b.lsm.Marks(programsOf(rs))
	if err != nil {
		return nil, err
	}
	return rs.WithMarks(bits, since), nil
}

// telling implements backend.
func (b *lsmBackend) telling(rs, also *rules.RuleSet) (*rules.RuleSet, error) {
	if also == nil || len(also.Trees()) == 0 {
		return rs.Telling(nil, nil, 0), nil
	}
	bits, since, err := b.lsm.Marks(programsOf(also))
	if err != nil {
		return nil, err
	}
	return rs.Telling(also.Trees(), bits, since), nil
}

func (b *lsmBackend) watch(on bool) { b.lsm.Watch(on) }

func (b *lsmBackend) bury() (int, error) { return kernelbridge.RemoveSurvivors(b.pins) }

func (b *lsmBackend) exemptPeer(pid int) error { return b.lsm.ExemptPeer(pid) }

func (b *lsmBackend) drain(ctx context.Context) error { return b.lsm.Drain(ctx) }

// policy is what the kernel side keeps of a rule set.
type policy struct {
	scope  rules.Scope
	mute   rules.Mute
	set    *rules.RuleSet // nil while two are in force
	kernel [abi.EventCount][]abi.KernelRule
	asked  uint64                 // bit e: event e is asked about
	sleep  time.Duration          // the longest deadline of a rule
	trees  []kernelbridge.Program // the process trees that rules name
	want   [abi.EventCount]abi.Fields
	keep   [abi.EventCount]abi.Fields // what a kept allow depends on
	onFail [abi.EventCount]abi.Verdict
	// The scope is the one in force and need not be looked up again: what has become of
	// it since keeps no other one out.
	scopeStays bool
}

func policyOf(rs *rules.RuleSet) policy {
	p := policy{scope: rs.Scope(), mute: rs.Mute(), set: rs, sleep: rs.MaxDeadline(), asked: bitsOf(rs.Events()), trees: programsOf(rs)}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		// The record of a refusal has path, detail, numbers and executable, consulted
		// or not.
		p.want[e] = rs.Consulted(e)&^abi.ContentFields | abi.FieldExe | abi.FieldPath | abi.FieldDetail | abi.FieldArgs
		p.onFail[e] = abi.Verdict{Errno: rs.Default().OnFail.Errno}
		p.kernel[e] = rs.KernelRules(e)
		if consulted := rs.Consulted(e); consulted&^abi.Keepable == 0 {
			p.keep[e] = consulted | abi.FieldKeep
		}
	}
	return p
}

// bitsOf returns a set of events, a bit each.
func bitsOf(events []abi.Event) (set uint64) {
	for _, e := range events {
		set |= 1 << e
	}
	return set
}

// again returns p, which is in force or was right now, with the scope that is.
func (p policy) again() policy {
	p.scopeStays = true
	return p
}

// collecting returns p, which is in force, with the facts that another set looks at, in
// what is asked about anyway.
func (p policy) collecting(also *rules.RuleSet) policy {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		p.want[e] |= also.Consulted(e)
	}
	p.trees = union(p.trees, programsOf(also))
	return p
}

// alsoFor returns p, which is in force, with the events and facts that q wants too;
// everything is asked about.
func (p policy) alsoFor(q policy) policy {
	p.set, p.kernel = nil, [abi.EventCount][]abi.KernelRule{}
	p.keep = [abi.EventCount]abi.Fields{}
	p.scopeStays = true
	p.asked |= q.asked
	p.sleep = max(p.sleep, q.sleep)
	p.trees = union(p.trees, q.trees)
	for e := range p.want {
		p.want[e] |= q.want[e]
	}
	return p
}

func (b *lsmBackend) counters() map[string]uint64 {
	m := map[string]uint64{}
	if n := b.lsm.GateRefused(); n > 0 {
		m["gate.refused"] = n
	}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		c, err := b.lsm.Counts(e)
		if err != nil {
			continue // the map is ours; an error means that it is closed
		}
		if c.Asked == 0 && e > abi.EventExec {
			continue // most events are never asked about
		}
		m[e.String()+".asked"] = c.Asked
		m[e.String()+".cached"] = c.Cached
		m[e.String()+".decided"] = c.Decided
		m[e.String()+".answered"] = c.Answered
		for r := abi.ReasonNoWorker; r < abi.KernelReasons; r++ {
			if n := c.Failed[r]; n > 0 {
				m[e.String()+".failed."+r.String()] = n
			}
		}
	}
	return m
}

func (b *lsmBackend) close() error {
	var errs []error
	if b.lsm != nil {
		errs = append(errs, b.lsm.Close())
	}
	if b.guard != nil {
		errs = append(errs, b.guard.close())
	}
	return errors.Join(errs...)
}

// fanotifyBackend is fanotify with its guard.
type fanotifyBackend struct {
	fan   *fanotify.Backend
	guard *keeper // nil when switched off
	bound time.Duration
}

func openFanotify(cfg *config, onFailure func(arbiter.Event), log *slog.Logger) (backend, error) {
	b := &fanotifyBackend{bound: time.Duration(cfg.HoldLimit)}
	o := fanotify.Options{Workers: cfg.Workers, HoldLimit: time.Duration(cfg.HoldLimit), AskRemote: cfg.AskRemote, Logger: log,
		OnFailure: func(f *abi.Failure) { onFailure(failureEvent(f)) }}
	if cfg.Guard {
		k, err := startGuard(log)
		if err != nil {
			return nil, err
		}
		b.guard, o.Beat, o.Exempt = k, k.beat, []int{k.pid()}
	}
	var err error
	if b.fan, err = fanotify.Open(o); err != nil {
		return nil, errors.Join(err, b.close())
	}
	if b.guard != nil {
		b.guard.run(b.fan.ExecSelf, b.fan.AddExempt)
	}
	return b, nil
}

func (b *fanotifyBackend) sources() (s []arbiter.Source) {
	for _, src := range b.fan.Sources() {
		s = append(s, src)
	}
	return s
}

func (b *fanotifyBackend) wait() time.Duration { return b.bound }

func (b *fanotifyBackend) execSelf(start func() error) error { return b.fan.ExecSelf(start) }

func (b *fanotifyBackend) waits(abi.Event) string {
	return "it sleeps, and can be killed"
}

func (b *fanotifyBackend) check(rs *rules.RuleSet) ([]string, error) {
	if err := errors.Join(checkFanotifyScope(rs), checkFanotifyTrees(rs), checkFanotifyRoles(rs)); err != nil {
		return nil, err
	}
	want := rs.Consulted(abi.EventOpen) | rs.Consulted(abi.EventExec)
	return append(fanotify.Unsupported(want), failureWarnings(rs, "hold_limit", b.bound)...), b.fan.Check(rs.Scope().Paths)
}

// Unavailable implements backend: fanotify has permission events for two of them.
func (b *fanotifyBackend) Unavailable(asked []abi.Event) map[abi.Event]string {
	cannot := map[abi.Event]string{}
	for _, e := range asked {
		if e != abi.EventOpen && e != abi.EventExec {
			cannot[e] = "fanotify tells of open and exec only; it needs a kernel with BPF LSM"
		}
	}
	return cannot
}

// moved implements backend: fanotify knows the scope by its paths, and follows mounts.
func (b *fanotifyBackend) moved(*rules.RuleSet) bool { return false }

func (b *fanotifyBackend) warnings() []string { return b.fan.Warnings() }

func (b *fanotifyBackend) protect(p *kernelbridge.Protection) error {
	return b.guard.protectBy(p.ProtectProcess)
}

func (b *fanotifyBackend) problems() []string {
	if b.guard == nil {
		return nil
	}
	return b.guard.problems()
}

func (b *fanotifyBackend) configure(p policy) error {
	var all abi.Fields
	onFail := map[abi.Event]abi.Verdict{}
	for _, e := range [...]abi.Event{abi.EventOpen, abi.EventExec} {
		all |= p.want[e]
		onFail[e] = p.onFail[e]
	}
	return b.fan.Configure(p.scope.Paths, all, onFail)
}

// marked implements backend: rules that name process trees are refused.
func (b *fanotifyBackend) marked(rs *rules.RuleSet) (*rules.RuleSet, error) { return rs, nil }

// telling implements backend.
func (b *fanotifyBackend) telling(rs, _ *rules.RuleSet) (*rules.RuleSet, error) { return rs, nil }

// watch does nothing: the kernel side allows nothing by itself.
func (b *fanotifyBackend) watch(bool) {}

// exemptPeer implements backend. A process that has ended is never taken for another one.
func (b *fanotifyBackend) exemptPeer(pid int) error {
	if pid == 0 {
		return nil
	}
	return b.fan.AddExempt(pid)
}

func (b *fanotifyBackend) bury() (int, error) { return 0, nil }

// drain does nothing: what is asked from now on is answered when the group closes.
func (b *fanotifyBackend) drain(context.Context) error { return nil }

func (b *fanotifyBackend) counters() map[string]uint64 {
	s := b.fan.Stats()
	m := map[string]uint64{"events": s.Events, "answered": s.Answered, "exempt": s.Exempt, "out_of_scope": s.OutOfScope,
		"exec_twins": s.Twins, "late": s.Late, "overflows": s.Overflows, "read_errors": s.ReadErrors, "reply_errors": s.ReplyErrors, "failures_unreported": s.Unreported,
		"watch_errors": s.WatchErrors, "marks.mounts": uint64(s.Mounts), "marks.directories": uint64(s.Directories), "marks.unasked": uint64(s.Unasked), "stuck_readers": s.StuckReaders}
	for r, n := range s.Failed {
		if n > 0 {
			m["failed."+abi.Reason(r).String()] = n
		}
	}
	return m
}

func (b *fanotifyBackend) close() error {
	var errs []error
	if b.fan != nil {
		errs = append(errs, b.fan.Close())
	}
	if b.guard != nil {
		errs = append(errs, b.guard.close())
	}
	return errors.Join(errs...)
}

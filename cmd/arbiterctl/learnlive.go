// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
	"github.com/arbiterd/arbiter/rules/learn"
)

// live learns from what the daemon tells.
type live struct {
	*app
	*learning
	cmd *cobra.Command
	c   *client

	epoch  uint64   // in force while learning
	before uint64   // suspended meanwhile
	pushed bool     // epoch is ours and still to be taken back
	ids    []string // of our rules; set where they tell the workload from the others
	forks  *forks   // tells them apart where rules do not
	own    *cgroup  // of the command, nil without one

	into      *learn.Observed
	notices   uint64 // failure verdicts that the kernel side told of
	lost      loss
	undecided []told // of processes whose fork has not been told yet
}

// told is a request with who made it.
type told struct {
	by process
	e  *controlv1.Event
}

// undecidedMost bounds how many requests wait for the fork of their process.
const undecidedMost = 100_000

// learn implements source.
func (l *live) learn(into *learn.Observed) (_ loss, code int, err error) {
	l.into = into
	// What is begun is ended in order: a signal is for the watching alone.
	ctx := context.WithoutCancel(l.cmd.Context())
	if l.c, err = l.connect(ctx); err != nil {
		return loss{}, 0, err
	}
	defer l.c.close()
	before, err := l.counters(ctx)
	if err != nil {
		return loss{}, 0, err
	}
	rs, err := l.inForce(ctx)
	if err != nil {
		return loss{}, 0, err
	}
	if len(l.command) > 0 {
		if l.own, err = makeCgroup(fmt.Sprintf("arbiter-learn-%d", os.Getpid())); err != nil {
			fmt.Fprint(l.stderr, prefixed("arbiterctl: ", safe(fmt.Sprintf("the command runs in our own cgroup: %v", err))))
		} else {
			defer l.leave()
		}
	}
	if l.observe {
		if err := l.push(ctx, rs); err != nil {
			return loss{}, 0, err
		}
		defer l.revert()
	} else if err := l.useRules(rs); err != nil {
		return loss{}, 0, err
	}
	if l.ids == nil {
		if err := l.follow(); err != nil {
			return loss{}, 0, err
		}
		defer l.forks.close()
	}
	code, err = l.watchCommand()
	if err != nil {
		return loss{}, 0, err
	}
	l.decide(true)
	l.revert()
	l.compare(ctx, before)
	l.lost.full += into.Overflowed()
	return l.lost, code, nil
}

// counters asks for the daemon's counters.
func (l *live) counters(ctx context.Context) (*controlv1.StatusServiceGetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	s, err := l.c.status.Get(ctx, &controlv1.StatusServiceGetRequest{})
	if err != nil {
		return nil, l.c.rpcFailure(l.cmd, "asking for the status", err)
	}
	return s, nil
}

// unaskedCounters are what fanotify lets go on without a question or a record.
var unaskedCounters = []string{"overflows", "failures_unreported"}

// compare notes what the daemon has lost since then.
func (l *live) compare(ctx context.Context, then *controlv1.StatusServiceGetResponse) {
	now, err := l.counters(ctx)
	switch {
	case err != nil:
		l.lost.because("whether the daemon lost events is not known: " + err.Error())
		return
	case now.Pid != then.Pid:
		l.lost.because("another daemon serves now than at the beginning")
		return
	}
	l.lost.journal += now.Counters.GetEventsDropped() - then.Counters.GetEventsDropped()
	for _, name := range unaskedCounters {
		l.lost.unasked += now.KernelCounters[name] - then.KernelCounters[name]
	}
	// BPF LSM counts each failure verdict of the kernel side, and tells of as many as there
	// is room for.
	var failed uint64
	for name, n := range now.KernelCounters {
		event, reason, ok := strings.Cut(name, ".failed.")
		if e, known := abi.ParseEvent(event); ok && known && slices.Contains(l.events, e) && reason != abi.ReasonInterrupted.String() {
			failed += n - then.KernelCounters[name]
		}
	}
	l.lost.unasked += failed - min(failed, l.notices)
}

// inForce returns the rules in force, nil for none.
func (l *live) inForce(ctx context.Context) (*rules.RuleSet, error) {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	r, err := l.c.rules.Get(ctx, &controlv1.GetRequest{})
	if status.Code(err) == codes.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, l.c.rpcFailure(l.cmd, "getting the rules in force", err)
	}
	l.epoch = r.GetInfo().GetEpoch()
	rs, err := rules.Load("the rules in force", r.GetSource(), offlineOptions())
	if err != nil {
		return nil, fail(exitFailure, "use the arbiterctl of the daemon's version: arbiterctl status, arbiterctl version", err)
	}
	return rs, nil
}

// useRules learns from the rules in force, if they show everything.
func (l *live) useRules(rs *rules.RuleSet) error {
	if rs != nil && len(l.scope) == 0 {
		l.scope = rs.Scope().Paths
	}
	why := gaps(rs, l.scope, l.events)
	if len(why) == 0 {
		return nil
	}
	next := "give --observe and --scope: for as long as it learns, a set is in force that refuses nothing and asks"
	if !refusesNothing(rs) {
		next += "\nthat suspends the rules in force, so it takes --suspend-rules, too; or push rules that show what is missing"
	}
	text := "learning from the rules in force does not show everything"
	for _, w := range why {
		text += "\n" + w
	}
	return fail(exitStale, next, errors.New(text))
}

// slack is how long behind --for the set of --observe goes by itself.
const slack = time.Minute

// push puts the set in force that asks. The rules before are in force again when we revert
// it, and by themselves when we cannot.
func (l *live) push(ctx context.Context, rs *rules.RuleSet) error {
	if !refusesNothing(rs) && !l.suspend {
		return fail(exitStale, "learn from them: add the events and the scope to the rules in force, and leave --observe out\nor let them not hold meanwhile: --suspend-rules",
			fmt.Errorf("epoch %d is in force and can refuse something: while learning it would not", l.epoch))
	}
	within := l.cgroup
	if l.own != nil {
		within = l.own.path
	}
	if kernelbridge.CgroupRoot() == "" { // rules know cgroups of v2 alone
		within = ""
	}
	source, ids := learn.Watching(l.scope, l.events, within)
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	p, err := l.c.rules.Push(ctx, &controlv1.PushRequest{Source: source, Name: "arbiterctl learn", ExpectedEpoch: &l.epoch,
		Reason: "learning", ConfirmWithin: durationpb.New(l.limit + slack)})
	if err != nil {
		err := l.c.rpcFailure(l.cmd, "putting the set in force that asks", err)
		if err.code == exitStale {
			err.next = "do as the message says; what is not asked about here has to be left out of --events"
		}
		return err
	}
	l.before, l.epoch, l.pushed = l.epoch, p.Epoch, true
	if within != "" {
		l.ids = ids
	}
	for _, w := range p.Warnings {
		fmt.Fprintln(l.stderr, "warning: "+audit.Quote(w))
	}
	fmt.Fprintf(l.stderr, "arbiterctl: epoch %d asks and refuses nothing, until learning ends, at the latest %s; then %s again; to end it at once: arbiterctl rules revert %d\n",
		p.Epoch, p.ConfirmBy.AsTime().Local().Format(time.DateTime), epochText(l.before), p.Epoch)
	return nil
}

// revert takes the set back that we pushed. It can be called twice.
func (l *live) revert() {
	if !l.pushed {
		return
	}
	l.pushed = false
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.cmd.Context()), l.timeout)
	defer cancel()
	if _, err := l.c.rules.Revert(ctx, &controlv1.RevertRequest{Epoch: l.epoch}); err != nil {
		text := fmt.Sprintf("epoch %d, which asks, could not be taken back: %s", l.epoch, status.Convert(err).Message())
		l.lost.because(safe(text))
		fmt.Fprint(l.stderr, prefixed("arbiterctl: ", safe(text+"\nlook at arbiterctl status: somebody else may have ended or confirmed it")))
	}
}

// follow begins to tell the workload from others by who forked whom.
func (l *live) follow() (err error) {
	if l.forks, err = watchForks(); err != nil {
		return fail(exitPermission, "run it as root; or, where cgroup v2 is mounted, with --observe", err)
	}
	if l.cgroup == "" {
		return nil
	}
	at, err := kernelbridge.FindOwnCgroup()
	if err == nil {
		// What is below it belongs to it, too.
		err = filepath.WalkDir(filepath.Join(at.Mount, l.cgroup), func(dir string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			pids, err := (&cgroup{dir: dir}).procs()
			for _, pid := range pids {
				l.forks.root(pid)
			}
			return err
		})
	}
	if err != nil {
		l.forks.close()
		return fail(exitFailure, "", fmt.Errorf("looking at the cgroup: %w", cause(err)))
	}
	return nil
}

// event takes one event of the stream. It reports whether that may have been one of the
// workload.
func (l *live) event(e *controlv1.Event) bool {
	event, _ := abi.ParseEvent(e.Event)
	if !slices.Contains(l.events, event) {
		return false
	}
	if e.Reason != "" && e.Worker < 0 && e.Reason != abi.ReasonInterrupted.String() {
		l.notices++
	}
	switch {
	case l.ids == nil:
		return l.place(told{process{e.Subject.GetTgid(), e.Subject.GetStartBoottimeNs()}, e})
	case slices.Contains(l.ids, e.Rule) && (e.Reason == "" || e.Worker >= 0):
		// Also when the answer came too late: the worker had all facts.
		l.into.Add(factOf(eventOf(e)))
	default:
		l.failure(e)
	}
	return true
}

// place counts a request if it is known to be one of the workload; false when it is not
// one.
func (l *live) place(t told) bool {
	ours, known := l.forks.ours(t.by)
	switch {
	case !known && len(l.undecided) < undecidedMost:
		l.undecided = append(l.undecided, t)
	case !known:
		l.lost.full++
	case !ours:
		return false
	case t.e.Reason != "":
		l.failure(t.e)
	case t.e.Epoch != l.epoch:
		l.lost.because("other rules were put in force meanwhile")
	case t.e.Verdict == "deny" || t.e.Verdict == "kill":
		l.lost.refused++
	default:
		l.into.Add(factOf(eventOf(t.e)))
	}
	return true
}

// failure notes a request that was not decided by a rule, so that not all is known of it.
// One whose process ended while it was held was never made.
func (l *live) failure(e *controlv1.Event) {
	if e.Reason != abi.ReasonInterrupted.String() {
		l.lost.failed++
	}
}

// decide looks again at those whose fork was not known. At the end, what is not known
// still is of a process that was there before and is no root: not ours.
func (l *live) decide(end bool) {
	again := l.undecided
	l.undecided = nil
	for _, t := range again {
		l.place(t)
	}
	if end {
		l.undecided = nil
		if l.forks != nil && l.forks.overrun() {
			l.lost.because("the kernel told of more forks than could be read, so requests of some processes are left out")
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package rulepush

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/compiler"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/asker"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// session is a daemon without its kernel side.
type session struct {
	verdicts bool
	dir      string
	kernel   *ringtest.Kernel
	engine   *arbiter.Arbiter
	store    *store.Store
	rules    *control.Rules
	asker    *asker.Asker
	files    [versions][]byte
	pushes   pushes
}

// versions of the rules are pushed in turns. They differ in the first rule alone, by
// whose errno it is told which of them gave a verdict. One that is as many pushes late
// as there are versions, less one, would pass for that of the next push.
const versions = 5

var errnos = [versions]struct {
	name   string
	number uint16
}{{"EPERM", 1}, {"ENOENT", 2}, {"EIO", 5}, {"EACCES", 13}, {"EBUSY", 16}}

// probes is the folder that the first rule is about.
const probes = "/srv/probe/"

func open(n int, verdicts bool, at bench.Place) (_ *session, err error) {
	s := &session{verdicts: verdicts}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	mixed := bench.MixedRules(n - 1)
	for v, e := range errnos {
		first := fmt.Sprintf("rules:\n- {id: probe, events: [open], object: {path: {prefix: %s}}, verdict: {deny: %s}}\n", probes, e.name)
		s.files[v] = bytes.Replace(mixed, []byte("rules:\n"), []byte(first), 1)
	}
	if s.dir, err = os.MkdirTemp("", "arbiter-bench-"); err != nil {
		return nil, fmt.Errorf("making the store's folder: %w", err)
	}
	if s.store, err = store.Open(s.dir, store.Options{Keep: 2}); err != nil {
		return nil, err
	}
	if s.kernel, err = ringtest.New(1); err != nil {
		return nil, err
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + 3) // as in the daemon, with one worker
	s.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(),
		Apart: true, Workers: []arbiter.Worker{{Source: s.kernel.Sources()[0], CPU: at.Responder, Wait: time.Second}}})
	if err != nil {
		return nil, err
	}
	if err := s.engine.Start(); err != nil {
		return nil, err
	}
	if s.rules, err = control.NewRules(control.RulesConfig{Engine: s.engine, Applier: applier{s.engine}, Store: s.store, Load: compiler.New(nil, []int{at.Responder}, nil).Load}); err != nil {
		return nil, err
	}
	if err := s.push(); err != nil { // so that there is always a set that an answer must be of
		return nil, err
	}
	s.asker, err = asker.Start(s.kernel, at.Requester, probes)
	return s, err
}

// push puts the next version in force. It returns when every worker decides by it.
func (s *session) push() error {
	n := len(s.pushes)
	if _, err := s.rules.Push(context.Background(), control.Push{Name: "bench.yaml", Source: s.files[n%versions], Reason: "measuring"}); err != nil {
		return fmt.Errorf("pushing rules: %w", err)
	}
	s.pushes = append(s.pushes, ringtest.Now())
	return nil
}

// pace is what is between two questions: some thousand a second leave the CPU to the push,
// and the worker awake.
const pace = 100 * time.Microsecond

// watched is up to how many verdicts are looked at: those of ten seconds, which a round has not.
const watched = 100_000

// Round pushes until there is no time or no room left, and has somebody ask all the
// while. There is no warm-up: a push is nothing that is done often.
func (s *session) Round(o bench.RoundOptions, samples []uint32) (bench.Outcome, error) {
	begin := time.Now()
	limit := len(samples)
	if s.verdicts {
		limit = most
	}
	if err := s.asker.Begin(asker.Order{Samples: watched, Pace: pace, Budget: time.Minute}); err != nil {
		return bench.Outcome{}, err
	}
	n := 0
	var err error
	for err == nil && time.Since(begin) <= o.Budget && n < limit {
		at := time.Now()
		err = s.push()
		if !s.verdicts {
			samples[n] = uint32(min(time.Since(at), math.MaxUint32))
		}
		n++
	}
	answers, askErr := s.asker.End()
	if err = errors.Join(err, askErr); err != nil {
		return bench.Outcome{}, err
	}
	out := bench.Outcome{Samples: n, Figures: map[string]float64{bench.FigureStale: float64(s.pushes.stale(answers))}}
	if s.verdicts {
		out.Pace = pace
		out.Samples, out.Failed = pick(answers, samples)
	}
	return out, nil
}

// pick takes as many samples as are wanted out of all answers: what a push does at its end counts as well.
func pick(answers []asker.Answer, samples []uint32) (n, failed int) {
	n = min(len(answers), len(samples))
	for i := range n {
		a := answers[i*len(answers)/n]
		samples[i] = a.Took
		if a.Failed {
			failed++
		}
	}
	return n, failed
}

// Close ends the engine, then what is under it.
func (s *session) Close() error {
	var errs []error
	if s.asker != nil {
		errs = append(errs, s.asker.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	if s.kernel != nil {
		errs = append(errs, s.kernel.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

// applier puts rules in force in the engine; there is no kernel side to change.
type applier struct{ engine *arbiter.Arbiter }

func (applier) Check(context.Context, *rules.RuleSet) ([]string, error) { return nil, nil }

func (a applier) Apply(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) ([]string, error) {
	return nil, a.engine.Install(ctx, rs, reason)
}

func (applier) Unavailable([]abi.Event) map[abi.Event]string { return nil }
func (applier) Moved(*rules.RuleSet) bool                    { return false }
func (applier) Collect(*rules.RuleSet) error                 { return nil }

func (a applier) Canary(ctx context.Context, c *arbiter.Canary) error {
	return a.engine.InstallCanary(ctx, c, cache.RulesPushed)
}

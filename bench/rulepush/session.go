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
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// session is a daemon without its kernel side.
type session struct {
	verdicts bool
	cpu      int // of who asks
	dir      string
	kernel   *ringtest.Kernel
	engine   *arbiter.Arbiter
	store    *store.Store
	rules    *control.Rules
	files    [versions][]byte
	paths    [names]string
	pushed   atomic.Uint64 // pushes that have returned
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
	s := &session{verdicts: verdicts, cpu: at.Requester, paths: newPaths()}
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
	runtime.GOMAXPROCS(runtime.NumCPU() + 4) // as in the daemon, with one worker; and one for who asks, who is no goroutine there
	s.engine, err = arbiter.New(arbiter.Config{Rules: rules.Nothing(),
		Workers: []arbiter.Worker{{Source: s.kernel.Sources()[0], CPU: at.Responder, Wait: time.Second}}})
	if err != nil {
		return nil, err
	}
	if err := s.engine.Start(); err != nil {
		return nil, err
	}
	if s.rules, err = control.NewRules(control.RulesConfig{Engine: s.engine, Applier: applier{s.engine}, Store: s.store}); err != nil {
		return nil, err
	}
	return s, s.push() // so that there is always a set that an answer must be of
}

// push puts the next version in force. It returns when every worker decides by it.
func (s *session) push() error {
	n := s.pushed.Load()
	if _, err := s.rules.Push(context.Background(), control.Push{Name: "bench.yaml", Source: s.files[n%versions], Reason: "measuring"}); err != nil {
		return fmt.Errorf("pushing rules: %w", err)
	}
	s.pushed.Store(n + 1)
	return nil
}

// Round pushes until there is no time or no room left, and has somebody ask all the
// while. There is no warm-up: a push is nothing that is done often.
func (s *session) Round(o bench.RoundOptions, samples []uint32) (bench.Outcome, error) {
	begin := time.Now()
	stop, done := make(chan struct{}), make(chan asked, 1)
	room, limit := 0, len(samples)
	if s.verdicts {
		room, limit = len(samples), most
	}
	go func() { done <- s.ask(samples[:room], stop) }()
	var pushes int
	var err error
	for err == nil && time.Since(begin) <= o.Budget && pushes < limit {
		at := time.Now()
		err = s.push()
		if !s.verdicts {
			samples[pushes] = uint32(min(time.Since(at), math.MaxUint32))
		}
		pushes++
	}
	close(stop)
	a := <-done
	if err == nil {
		err = a.err
	}
	if err != nil {
		return bench.Outcome{}, err
	}
	out := bench.Outcome{Samples: pushes, Figures: map[string]float64{bench.FigureStale: float64(a.stale)}}
	if s.verdicts {
		out.Samples, out.Failed = a.n, a.failed
	}
	return out, nil
}

// Close ends the engine, then what is under it.
func (s *session) Close() error {
	var errs []error
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

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/bench/asker"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

// stormScenario is hot verdicts while the Go runtime of who answers has something else to do,
// with all means against that or without one of them. Who asks is a process of its own, on the
// queue's kernel side in plain Go: no privilege is needed.
type stormScenario struct {
	storm storm
	lacks means
}

func (s stormScenario) Describe() Info {
	i := Info{ID: "runtime-" + s.storm.id, Mechanism: Runtime, Responder: s.storm.what}
	if s.lacks.id != "" {
		i.ID, i.Responder = i.ID+"-"+s.lacks.id, i.Responder+"; "+s.lacks.what
	}
	return i
}

const (
	// stormPace is what is between two asks: the worker polls all the time, and the CPU of who
	// asks is free for the storm.
	stormPace = 100 * time.Microsecond
	stormDir  = "/srv/bench"
	// stormWait bounds one wait. What takes longer is a failure verdict, and counted as one.
	stormWait = time.Second
)

func (s stormScenario) Open(at Place) (_ Session, err error) {
	rs, err := rules.Load("bench.yaml", RuleSet(nativeRules, stormDir), rules.Options{Epoch: 1})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	sess := &stormSession{storm: s.storm}
	defer func() {
		if err != nil {
			err = errors.Join(err, sess.Close())
		}
	}()
	cpus := []int{at.Responder, at.Requester} // as in the daemon, where the last CPU comes first
	if s.lacks.alone || at.Responder == at.Requester {
		cpus = cpus[:1]
	}
	if sess.kernel, err = ringtest.New(len(cpus)); err != nil {
		return nil, err
	}
	cfg := arbiter.Config{Rules: rs, Apart: !s.lacks.together}
	for i, cpu := range cpus {
		var source arbiter.Source = sess.kernel.Sources()[i]
		if s.lacks.source != nil {
			var end func()
			if source, end = s.lacks.source(source); end != nil {
				sess.ends = append(sess.ends, end)
			}
		}
		cfg.Workers = append(cfg.Workers, arbiter.Worker{Source: source, CPU: cpu, Wait: stormWait})
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + len(cpus) + 2) // as in the daemon
	if s.lacks.runtime != nil {
		s.lacks.runtime()
	}
	if sess.engine, err = arbiter.New(cfg); err != nil {
		return nil, err
	}
	if err := sess.engine.Start(); err != nil {
		return nil, err
	}
	if s.lacks.started != nil {
		if err := s.lacks.started(); err != nil {
			return nil, err
		}
	}
	if sess.asker, err = asker.Start(sess.kernel, at.Requester, stormDir+"/data/opened"); err != nil {
		return nil, err
	}
	return sess, nil
}

type stormSession struct {
	storm  storm
	kernel *ringtest.Kernel
	engine *arbiter.Arbiter
	asker  *asker.Asker
	ends   []func() // of the sources
}

// Round has the asker ask while the storm goes on.
func (s *stormSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	if _, err := s.ask(asker.Order{Samples: o.Warmup, Budget: o.Budget / 4}); err != nil {
		return Outcome{}, err
	}
	live := newTree(liveLevels)
	runtime.GC() // the collections that making it takes are not the storm's
	before := readRuntime()
	calm := s.storm.begin(live)
	answers, err := s.ask(asker.Order{Samples: len(samples), Pace: stormPace, Budget: o.Budget})
	calm() // with the last collection, which was under way while the asker asked
	if err != nil {
		return Outcome{}, err
	}
	out := Outcome{Samples: len(answers), Pace: stormPace, Figures: readRuntime().since(before)}
	for i, a := range answers {
		samples[i] = a.Took
		if a.Failed {
			out.Failed++
		}
	}
	return out, nil
}

func (s *stormSession) ask(o asker.Order) ([]asker.Answer, error) {
	if err := s.asker.Begin(o); err != nil {
		return nil, err
	}
	return s.asker.Wait()
}

// Close ends who asks, then who answers.
func (s *stormSession) Close() error {
	var errs []error
	if s.asker != nil {
		errs = append(errs, s.asker.Close())
	}
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	for _, end := range s.ends {
		end()
	}
	if s.kernel != nil {
		errs = append(errs, s.kernel.Close())
	}
	return errors.Join(errs...)
}

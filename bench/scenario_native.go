// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/rules"
)

// nativeRules is the size of the rule set that the native queue's worker decides by.
const nativeRules = 1000

// nativeWait bounds one wait in the kernel: long enough that a worker whose CPU
// was taken away for a scheduler slice still answers, so that its delay is in the
// tail of the figures instead of among the failures.
const nativeWait = 10 * time.Millisecond

// nativeScenario asks through the shared-memory queue from a BPF program; the
// whole engine answers, from a worker pinned to the responder's CPU.
type nativeScenario struct {
	sameCPU bool
	noCache bool // every rule is walked for every ask
}

func (s nativeScenario) Describe() Info {
	i := Info{ID: "native-other", Mechanism: NativeQueue, Responder: "other CPU, verdict cache"}
	switch {
	case s.sameCPU:
		// Known to fail after 50 µs each; the row shows it.
		i.ID, i.Responder, i.SameCPU, i.MaxSamples = "native-same", "same CPU", true, 2000
	case s.noCache:
		i.ID, i.Responder = "native-other-nocache", fmt.Sprintf("other CPU, no cache, %d rules", nativeRules)
	}
	return i
}

func (s nativeScenario) Open(at Place) (Session, error) {
	return withNative(at, func(n *kernelbridge.Native) (Session, error) { return openNative(n, at, s.noCache) })
}

// withNative opens the queue for a session, which closes it.
func withNative(at Place, open func(*kernelbridge.Native) (Session, error)) (Session, error) {
	n, err := kernelbridge.OpenNative(kernelbridge.NativeOptions{CPUs: []int{at.Responder}, Wait: nativeWait})
	if err != nil {
		return nil, err
	}
	s, err := open(n)
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return s, nil
}

// nativeQueue is what a session needs of the queue; *kernelbridge.Native is one.
type nativeQueue interface {
	Sources() []*ring.Source
	Configure(want [abi.EventCount]abi.Fields, onFail [abi.EventCount]abi.Verdict)
	SetQuestion(f ring.Facts, path, exe string)
	Run(cpu int, took []uint64) (abi.Verdict, error)
	Counts(e abi.Event) (kernelbridge.Counts, error)
	Close() error
}

// nativeSession is the queue with its engine.
type nativeSession struct {
	queue  nativeQueue
	engine *arbiter.Arbiter
	cpu    int
	chunk  []uint64
}

// nativeChunk is how many questions one run of the program asks: the budget is
// looked at between runs, and a program that runs cannot be interrupted.
const nativeChunk = 500

func openNative(q nativeQueue, at Place, noCache bool) (*nativeSession, error) {
	return openNativeWith(q, at, noCache, sourcesOf(q))
}

func sourcesOf(q nativeQueue) (sources []arbiter.Source) {
	for _, s := range q.Sources() {
		sources = append(sources, s)
	}
	return sources
}

// openNativeWith is openNative with something in front of the queue's sources.
func openNativeWith(q nativeQueue, at Place, noCache bool, sources []arbiter.Source) (*nativeSession, error) {
	rs, err := rules.Load("bench.yaml", RuleSet(nativeRules, "/srv/bench"), rules.Options{Epoch: 1})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	var want [abi.EventCount]abi.Fields
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		want[e] = rs.Consulted(e)
	}
	q.Configure(want, [abi.EventCount]abi.Verdict{})
	q.SetQuestion(ring.Facts{Event: uint32(abi.EventOpen), Access: uint32(abi.AccessRead), Dev: 1, Ino: 2, Mode: 0o100644},
		"/srv/bench/data/opened", "/usr/bin/bench")
	cfg := arbiter.Config{Rules: rs}
	if noCache {
		cfg.CacheEntries = -1
	}
	engine, err := startEngine(sources, at, cfg)
	if err != nil {
		return nil, err
	}
	return &nativeSession{q, engine, at.Requester, make([]uint64, nativeChunk)}, nil
}

// startEngine starts an engine with a worker for each source.
func startEngine(sources []arbiter.Source, at Place, cfg arbiter.Config) (*arbiter.Arbiter, error) {
	for _, s := range sources {
		cfg.Workers = append(cfg.Workers, arbiter.Worker{Source: s, CPU: at.Responder, Wait: nativeWait})
	}
	// As in the daemon: a worker that attaches needs a processor of the Go scheduler.
	runtime.GOMAXPROCS(runtime.NumCPU() + len(cfg.Workers) + 2)
	engine, err := arbiter.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := engine.Start(); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return engine, nil
}

// Round asks in chunks. The durations of failed asks are among the samples, as
// they are what the held task would have waited.
func (s *nativeSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	begin := time.Now()
	for left := o.Warmup; left > 0 && time.Since(begin) <= o.Budget; left -= nativeChunk {
		if _, err := s.queue.Run(s.cpu, s.chunk[:min(left, nativeChunk)]); err != nil {
			return Outcome{}, err
		}
	}
	before, err := s.queue.Counts(abi.EventOpen)
	if err != nil {
		return Outcome{}, err
	}
	done := 0
	for done < len(samples) && time.Since(begin) <= o.Budget {
		took := s.chunk[:min(len(samples)-done, nativeChunk)]
		if _, err := s.queue.Run(s.cpu, took); err != nil {
			return Outcome{}, err
		}
		for i, ns := range took {
			samples[done+i] = uint32(min(ns, math.MaxUint32))
		}
		done += len(took)
	}
	return s.outcome(before, done)
}

// outcome counts what became of the asks since before.
func (s *nativeSession) outcome(before kernelbridge.Counts, done int) (Outcome, error) {
	after, err := s.queue.Counts(abi.EventOpen)
	if err != nil {
		return Outcome{}, err
	}
	answered := int(after.Answered - before.Answered)
	if asked := int(after.Asked - before.Asked); asked != done {
		return Outcome{}, fmt.Errorf("counting the asks: the kernel counted %d, %d were made", asked, done)
	}
	return Outcome{Samples: done, Failed: done - answered}, nil
}

// Close stops the engine, then unloads the queue.
func (s *nativeSession) Close() error { return errors.Join(s.engine.Close(), s.queue.Close()) }

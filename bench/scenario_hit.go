// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// hitID is the row of a decision that the workers' cache has.
const hitID = "hit"

// hitAsks is how many different requests there are: a sixteenth of what the cache has room for. With
// an eighth, one seed of six had five of them fall into a set of four.
const hitAsks = 256

// hitScenario is what the worker does between taking a request that it has decided
// before and answering it. One look at the clock is in the figure.
type hitScenario struct{}

func (hitScenario) Describe() Info {
	return Info{ID: hitID, Mechanism: RuleEngine, Responder: "cache hit, " + many(nativeRules), NoResponder: true}
}

func (hitScenario) Open(at Place) (Session, error) {
	rs, err := rules.Load("bench.yaml", MixedRules(nativeRules), rules.Options{Epoch: 1})
	if err != nil {
		return nil, fmt.Errorf("compiling the bench's rules: %w", err)
	}
	asks := MixedAsks(nativeRules, hitAsks)
	s := &hitSource{asks: asks, wake: make(chan struct{}, 1), base: time.Now()}
	runtime.GOMAXPROCS(runtime.NumCPU() + 3) // as in the daemon, with one worker
	engine, err := arbiter.New(arbiter.Config{Rules: rs, Workers: []arbiter.Worker{{Source: s, CPU: at.Requester, Wait: nativeWait}}})
	if err != nil {
		return nil, err
	}
	if err := engine.Start(); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return &hitSession{s, engine}, nil
}

type hitSession struct {
	source *hitSource
	engine *arbiter.Arbiter
}

// Round has the worker answer. What its cache did not have counts as failed: requests that
// fall into the same set displace each other, though there is room elsewhere.
func (s *hitSession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	s.source.run(make([]uint32, max(o.Warmup, hitAsks)), o.Budget)
	before := s.engine.Stats().Hits
	n := s.source.run(samples, o.Budget)
	// The worker counts an answer after it has given it: it is done with the last one
	// when it has looked for another.
	hits := int(s.engine.Stats().Hits - before)
	return Outcome{Samples: n, Failed: n - min(hits, n)}, nil
}

// Close stops the engine.
func (s *hitSession) Close() error { return s.engine.Close() }

// hitSource has requests while a job is on. Its fields belong to the worker, those of
// the job too until it is done.
type hitSource struct {
	asks  []PlainAsk
	next  int
	begin time.Duration // since base
	base  time.Time
	job   atomic.Pointer[hitJob]
	wake  chan struct{} // buffer of one
}

type hitJob struct {
	samples []uint32
	n       int
	end     time.Duration // of the budget, since base
	done    chan struct{}
}

// run fills samples and returns how many it had time for.
func (s *hitSource) run(samples []uint32, budget time.Duration) int {
	j := &hitJob{samples: samples, end: time.Since(s.base) + budget, done: make(chan struct{})}
	s.job.Store(j)
	s.Wake()
	<-j.done
	return j.n
}

// Next has the next request, until the job's samples are full or its time is up.
func (s *hitSource) Next(r *abi.Request) bool {
	j := s.job.Load()
	if j == nil {
		return false
	}
	if j.n == len(j.samples) || s.begin > j.end {
		s.job.Store(nil)
		close(j.done)
		return false
	}
	s.asks[s.next].Fill(r)
	s.next = (s.next + 1) % len(s.asks)
	r.PostedNS = math.MaxInt64 // it has not waited
	s.begin = time.Since(s.base)
	return true
}

// Reply takes the time.
func (s *hitSource) Reply(*abi.Request, abi.Verdict) bool {
	took := time.Since(s.base) - s.begin
	if j := s.job.Load(); j != nil {
		j.samples[j.n] = uint32(min(took, math.MaxUint32))
		j.n++
	}
	return true
}

// Hold keeps nothing: no rule of the bench needs a fact that is not there.
func (s *hitSource) Hold(*abi.Request) bool { return false }

// Park waits for the next job.
func (s *hitSource) Park(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-s.wake:
	case <-timer.C:
	}
}

// Wake ends Park.
func (s *hitSource) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

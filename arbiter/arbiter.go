// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Defaults of Config.
const (
	DefaultCacheEntries = 4096
	// DefaultSpinFor is how long a worker polls before it parks. A parked worker
	// costs a wake-up of some 50 µs, so a burst with gaps below a millisecond
	// pays it once.
	DefaultSpinFor = time.Millisecond
	// DefaultRecent is how many events a new subscriber can look back.
	DefaultRecent = 1024
)

// Worker says where one worker gets its requests and where it runs.
type Worker struct {
	Source Source
	// CPU is the processor that the worker's thread is pinned to; below 0 it
	// runs where the scheduler likes.
	CPU int
	// Wait is how long a requester of the source waits at most before it gives up
	// by itself; 0 means that nobody knows. Deadlines from there on are its own to
	// keep, and the worker does not read the clock for them before it answers.
	Wait time.Duration
}

// Config configures an Arbiter. Rules and Workers are required; zero values of
// the others mean the defaults.
type Config struct {
	Rules        *rules.RuleSet
	Workers      []Worker
	CacheEntries int           // of all workers, at most cache.MaxEntries; below 0 switches the cache off
	SpinFor      time.Duration // below 0: park at once
	Recent       int           // events kept for new subscribers
	// Apart keeps all other threads of the process off the CPUs that workers are pinned to, but
	// for those that have no others: who runs there keeps a worker waiting for milliseconds.
	// Children inherit it. Stop gives them back.
	Apart    bool
	Contents Fetcher      // nil: nothing can be had of the content of files
	Logger   *slog.Logger // for faults, never for verdicts; nil discards
	// Watched is called when the first one begins to watch plain allowed requests, and
	// when the last one has ended: in between sources must not allow anything by
	// themselves, and forget what they have kept (abi.Verdict.Keep). Nil: there are none
	// that do. It must not block.
	Watched func(bool)
}

// check returns all that is wrong with c, and fills the defaults in.
func (c *Config) check() error {
	var errs []error
	if c.Rules == nil {
		errs = append(errs, errors.New("Rules is nil: compile a rule set first"))
	}
	if n := len(c.Workers); n == 0 || n > abi.MaxWorkers {
		errs = append(errs, fmt.Errorf("%d workers: give 1 to %d", n, abi.MaxWorkers))
	}
	for i, w := range c.Workers {
		if w.Source == nil {
			errs = append(errs, fmt.Errorf("worker %d has no source", i))
		}
	}
	if c.CacheEntries > cache.MaxEntries {
		errs = append(errs, fmt.Errorf("CacheEntries %d: give at most %d", c.CacheEntries, cache.MaxEntries))
	}
	if c.CacheEntries == 0 {
		c.CacheEntries = DefaultCacheEntries
	}
	if c.SpinFor == 0 {
		c.SpinFor = DefaultSpinFor
	}
	if c.Recent == 0 {
		c.Recent = DefaultRecent
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// Arbiter answers the requests of its sources by the installed rule set. All
// methods may be called concurrently.
type Arbiter struct {
	cfg     Config
	workers []*worker
	current atomic.Pointer[installed]
	stream  *stream
	asks    *asks
	cache   *cache.Cache // nil when switched off
	flushes [cache.ReasonCount]atomic.Uint64

	mu      sync.Mutex // serialises Start, Install and Close
	started bool
	closed  bool
	stop    atomic.Bool

	cpus       unix.CPUSet    // that workers are pinned to
	before     unix.CPUSet    // of the thread that has called Start
	unpin      chan struct{}  // closed: keepPinned ends, which is before the workers do
	pinning    sync.WaitGroup // keepPinned
	running    sync.WaitGroup // the workers
	collecting sync.WaitGroup // the collector, which ends after them
}

// New checks the whole configuration and reports all that is wrong with it. The
// workers do not run before Start.
func New(cfg Config) (*Arbiter, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("configuring the arbiter: %w", err)
	}
	a := &Arbiter{cfg: cfg, cpus: cpusOf(cfg.Workers), stream: newStream(cfg.Recent), asks: newAsks()}
	a.stream.watched = cfg.Watched
	if cfg.CacheEntries > 0 {
		a.cache = cache.New(cfg.CacheEntries, seed())
	}
	for i, w := range cfg.Workers {
		a.workers = append(a.workers, newWorker(a, i, w))
	}
	a.put(cfg.Rules, nil, cache.Start)
	return a, nil
}

// firstLook bounds how long Start waits for a worker that runs to look for requests.
const firstLook = time.Second

// Start runs the workers and returns when each one is pinned and polling, but waits
// no longer than firstLook for one whose source keeps it. An error means that a worker
// could not be pinned; then none runs.
func (a *Arbiter) Start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	if a.started {
		return errors.New("starting the arbiter: it runs already")
	}
	a.started = true
	a.collecting.Go(func() { a.stream.collect(a.workers) })
	up := make(chan error, len(a.workers))
	for _, w := range a.workers {
		a.running.Go(func() { w.run(up) })
	}
	var errs []error
	for range a.workers {
		errs = append(errs, <-up)
	}
	if err := errors.Join(errs...); err != nil {
		a.shutdown()
		return fmt.Errorf("starting workers: %w", err)
	}
	_ = unix.SchedGetaffinity(0, &a.before) // more CPUs than it has room for: nobody is moved then
	a.keepApart()
	a.unpin = make(chan struct{})
	a.pinning.Go(func() { a.keepPinned(a.unpin) })
	ctx, cancel := context.WithTimeout(context.Background(), firstLook)
	defer cancel()
	_ = a.Check(ctx) // an idle worker has looked, or has parked: one that has not is found by the watchdog
	return nil
}

// Rules returns the rule set in force.
func (a *Arbiter) Rules() *rules.RuleSet { return a.current.Load().rules }

// installPoll is how often Install looks whether a worker came round: workers
// poll every few hundred nanoseconds or are parked, so the first look mostly does.
const installPoll = 20 * time.Microsecond

// Install puts rs in force and returns when every worker decides by it: no
// verdict of an older set is given after Install has returned nil. It ends a canary. The
// reason labels the cache flush. If ctx ends first the error wraps ErrStalled and names
// the worker; the set is in force all the same.
func (a *Arbiter) Install(ctx context.Context, rs *rules.RuleSet, reason cache.Reason) error {
	if rs == nil {
		return errors.New("installing a rule set: it is nil")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.install(ctx, rs, nil, reason)
}

// install is Install and InstallCanary; a.mu is held.
func (a *Arbiter) install(ctx context.Context, rs *rules.RuleSet, c *Canary, reason cache.Reason) error {
	if a.closed {
		return ErrClosed
	}
	next := a.put(rs, c, reason)
	if !a.started {
		return nil
	}
	tick := time.NewTicker(installPoll)
	defer tick.Stop()
	for _, w := range a.workers {
		for w.adopted.Load() != next && !w.parked.Load() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("installing rule set %d: worker %d: %w", rs.Epoch(), w.index, ErrStalled)
			}
		}
	}
	return nil
}

// Check reports the first worker that is neither parked nor gets on with its work
// within ctx: what a watchdog asks. The error wraps ErrStalled.
func (a *Arbiter) Check(ctx context.Context) error {
	tick := time.NewTicker(installPoll)
	defer tick.Stop()
	for _, w := range a.workers {
		before := w.progress()
		for !w.parked.Load() && w.progress() == before {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return fmt.Errorf("checking worker %d: %w", w.index, ErrStalled)
			}
		}
	}
	return nil
}

// Stop stops the workers and waits for them. Record still works, for the failure
// verdicts that the sources give while they are closed. It leaves the sources open:
// whoever opened them closes them, afterwards. It may be called more than once.
func (a *Arbiter) Stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopWorkers()
}

// Close is Stop, if that was not called, and the end of all subscriptions: what was
// recorded until then is in their buffers, as far as it had room there.
func (a *Arbiter) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shutdown()
	return nil
}

// stopWorkers ends the workers; a.mu is held.
func (a *Arbiter) stopWorkers() {
	if !a.closed && a.unpin != nil {
		close(a.unpin)
		a.pinning.Wait()
		a.giveBack()
	}
	a.closed = true
	a.stop.Store(true)
	for _, w := range a.workers {
		w.source.Wake()
	}
	a.running.Wait()
}

// shutdown ends all goroutines, the collector after those whose records it takes;
// a.mu is held.
func (a *Arbiter) shutdown() {
	a.stopWorkers()
	a.stream.stopCollector()
	a.collecting.Wait()
	a.stream.end()
}

// seed returns a random seed for a cache: nobody outside can know it.
func seed() uint64 { return maphash.Bytes(maphash.MakeSeed(), nil) }

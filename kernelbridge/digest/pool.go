// SPDX-License-Identifier: Apache-2.0

// Package digest reads the SHA-256 of the files that requests are about, away from the
// workers.
//
// A pool has a bounded queue and a fixed number of goroutines. A file system that does not
// answer keeps one of them, and no CPU: the hashing itself has few places, taken for one
// piece of a file at a time. What becomes of a request that waits meanwhile is its worker's
// to say, which has its deadline.
//
// What was hashed is remembered by what the kernel says of the file: see stamp. Where it
// does not say enough, a file is hashed each time.
package digest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Defaults of Options.
const (
	// DefaultMaxBytes is the largest file that is hashed: one second of one CPU, or less.
	DefaultMaxBytes = 1 << 30
	// DefaultEntries is how many digests are remembered, some 3 MB.
	DefaultEntries = 16384
)

const (
	// goroutines is how many files are looked at at once, those among them that hang.
	goroutines = 16
	// queued is how many more may wait: as many as the queue of requests has slots.
	queued = 1024
)

// Options configures a Pool. Zero values mean the defaults.
type Options struct {
	MaxBytes int64        // a larger file has no digest
	Entries  int          // digests that are remembered
	Logger   *slog.Logger // for faults; nil discards
}

// Object says which file is meant.
type Object struct {
	// File is a descriptor of it, open for reading, that Submit duplicates. Below 0 the
	// file is opened by Path, in the root directory of the thread Task, and must have
	// these numbers, Dev as the kernel packs it.
	File     int
	Task     uint32
	Path     string
	Dev, Ino uint64
}

// Pool hashes files. Its methods may be called concurrently.
type Pool struct {
	opts Options
	jobs chan job
	cpus chan struct{} // places for hashing
	stop context.Context
	halt func()
	now  func() time.Time // another one in tests

	running  sync.WaitGroup
	counters counters

	mu      sync.Mutex
	cache   *cache
	flights map[stamp][]func(sum [32]byte, known bool) // who waits for a file that is being hashed
}

// job is one file that somebody waits for.
type job struct {
	Object
	done func(sum [32]byte, known bool)
}

// New starts a pool.
func New(o Options) *Pool {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Entries <= 0 {
		o.Entries = DefaultEntries
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// Half of the CPUs: workers have the others, and a higher priority.
	p := &Pool{opts: o, jobs: make(chan job, queued), cpus: make(chan struct{}, max(runtime.NumCPU()/2, 1)),
		now: time.Now, cache: newCache(o.Entries), flights: map[stamp][]func([32]byte, bool){}}
	p.stop, p.halt = context.WithCancel(context.Background())
	for range goroutines {
		p.running.Go(p.run)
	}
	return p
}

// Submit has a file hashed, and done called once, from another goroutine or this one. Not
// known: the digest cannot be had. It does not block. False: there is no room, and done
// will not be called.
func (p *Pool) Submit(o Object, done func(sum [32]byte, known bool)) bool {
	j := job{o, done}
	if o.File >= 0 {
		fd, err := unix.FcntlInt(uintptr(o.File), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			p.counters.refused.Add(1)
			return false // no descriptor is left
		}
		j.File = fd
	}
	if p.stop.Err() == nil {
		select {
		case p.jobs <- j:
			return true
		default:
		}
	}
	j.close()
	p.counters.refused.Add(1)
	return false
}

func (j *job) close() {
	if j.File >= 0 {
		unix.Close(j.File)
		j.File = -1
	}
}

// Close ends the pool; whoever submits has ended before. What waits is told that nothing is
// known. When ctx ends first the error says how many goroutines a file system keeps.
func (p *Pool) Close(ctx context.Context) error {
	p.halt()
	done := make(chan struct{})
	go func() {
		p.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the digests: a file system keeps %d readers waiting; they end with the process", p.counters.busy.Load())
	}
}

func (p *Pool) run() {
	var h hasher
	for {
		select {
		case j := <-p.jobs:
			p.counters.busy.Add(1)
			p.serve(&j, &h)
			p.counters.busy.Add(-1)
		case <-p.stop.Done():
			select {
			case j := <-p.jobs:
				j.close()
				j.done([32]byte{}, false)
				continue
			default:
			}
			return
		}
	}
}

// serve answers one job. A panic is a bug of ours: its file is not known then.
func (p *Pool) serve(j *job, h *hasher) {
	defer j.close()
	defer func() {
		if v := recover(); v != nil {
			p.bug(v)
			p.tell(j.done, [32]byte{}, false)
		}
	}()
	sum, err := p.digest(j, h)
	switch {
	case errors.Is(err, errJoined):
	case err != nil:
		p.counters.unknown[causeOf(err)].Add(1)
		p.tell(j.done, sum, false)
	default:
		p.tell(j.done, sum, true)
	}
}

// tell calls done. Should that panic, it is its own loss: others are told too.
func (p *Pool) tell(done func(sum [32]byte, known bool), sum [32]byte, known bool) {
	defer func() {
		if v := recover(); v != nil {
			p.bug(v)
		}
	}()
	done(sum, known)
}

func (p *Pool) bug(v any) {
	p.opts.Logger.Error("BUG: hashing a file, or telling its digest, panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}

// errJoined: another goroutine hashes the same file, and tells.
var errJoined = errors.New("joined")

// digest returns the digest of the file of a job.
func (p *Pool) digest(j *job, h *hasher) (sum [32]byte, err error) {
	if j.File < 0 {
		if j.File, err = j.Object.open(); err != nil {
			return sum, err
		}
	}
	s, err := stampOf(j.File)
	if err != nil {
		return sum, err
	}
	if s.size > p.opts.MaxBytes {
		return sum, errTooBig
	}
	p.mu.Lock()
	sum, ok := p.cache.get(s)
	p.mu.Unlock()
	if ok {
		p.counters.hits.Add(1)
		return sum, nil
	}
	if !s.lasting(j.File, p.now()) {
		sum, _, err = p.hash(j.File, s, h)
		return sum, err
	}
	p.mu.Lock()
	waiting, underWay := p.flights[s]
	if underWay {
		p.flights[s] = append(waiting, j.done)
		p.mu.Unlock()
		p.counters.joined.Add(1)
		return sum, errJoined
	}
	p.flights[s] = nil
	p.mu.Unlock()
	known, after := false, s
	defer func() {
		p.mu.Lock()
		others := p.flights[s]
		delete(p.flights, s)
		if known && after == s {
			p.cache.put(s, sum)
		}
		p.mu.Unlock()
		for _, done := range others {
			p.tell(done, sum, known)
		}
	}()
	sum, after, err = p.hash(j.File, s, h)
	known = err == nil
	return sum, err
}

// counters are the writable side of Stats.
type counters struct {
	hits, joined, hashed, bytes, refused atomic.Uint64
	unknown                              [causes]atomic.Uint64
	busy                                 atomic.Int64
}

// Stats returns what was counted since New, by name. Every job is among hits, joined,
// hashed, or one of unknown; those that there was no room for are refused.
func (p *Pool) Stats() map[string]uint64 {
	c := &p.counters
	m := map[string]uint64{"hits": c.hits.Load(), "joined": c.joined.Load(), "hashed": c.hashed.Load(), "bytes": c.bytes.Load(),
		"refused": c.refused.Load(), "busy": uint64(max(c.busy.Load(), 0))}
	for i := range c.unknown {
		m["unknown."+causeNames[i]] = c.unknown[i].Load()
	}
	return m
}

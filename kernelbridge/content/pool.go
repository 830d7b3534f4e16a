// SPDX-License-Identifier: Apache-2.0

// Package content looks into the files that requests are about, away from the workers: at
// their first bytes, which tell the format, or at all of them, for the SHA-256. Or it asks the
// kernel for the fs-verity digest, and reads nothing; or has a scanner look for what is malicious.
//
// A pool has a lane for what takes all bytes, one for what does not, and one for scans: a bounded
// queue and a fixed number of goroutines, so that nobody waits for a format while others hash, and
// for a digest while others are scanned. A file system that does not answer keeps one of them, and
// no CPU: the hashing itself has few places, taken for one piece of a file at a time. What becomes
// of a request that waits meanwhile is its worker's to say, which has its deadline.
//
// What a file was read in full for is remembered by what the kernel says of the file: see stamp.
// Where it does not say enough, a file is read each time; and a format alone always is: to make
// sure that it will still be true takes longer than to read it again, and a lease. The kernel is
// asked for an fs-verity digest each time: it has it at hand.
package content

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

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Defaults of Options.
const (
	// DefaultMaxBytes is the largest file that is hashed: one second of one CPU, or less.
	DefaultMaxBytes = 1 << 30
	// DefaultEntries is how many files are remembered, some 3 MB.
	DefaultEntries = 16384
)

const (
	// goroutines is how many files each lane looks at at once, those among them that hang.
	goroutines = 16
	// queued is how many more may wait in each: as many as the queue of requests has slots.
	queued = 1024
)

// Options configures a Pool. Zero values mean the defaults.
type Options struct {
	MaxBytes int64        // a larger file has no digest
	Entries  int          // files that are remembered
	Scan     Scanning     // by whom files are scanned
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

// Pool looks at files. Its methods may be called concurrently.
type Pool struct {
	opts    Options
	hashes  chan job
	headers chan job
	scans   chan job
	cpus    chan struct{} // places for hashing
	stop    context.Context
	halt    func()
	now     func() time.Time // another one in tests

	running  sync.WaitGroup
	counters counters
	editions editions
	lastSaid atomic.Int64 // when a file that could not be scanned was logged, nanoseconds since 1970

	mu      sync.Mutex
	cache   *cache
	flights map[flight][]func(abi.Content) // who waits for a file that is being read in full
}

// job is one file that somebody waits for.
type job struct {
	Object
	want  abi.Fields
	until time.Time // nobody waits for it any more
	done  func(abi.Content)
}

// quick reports whether what is wanted takes no reading to speak of, so that it need not wait
// where files are hashed. Of a scan that is to look up whether the file was scanned before.
func (j *job) quick() bool {
	return j.want&^(abi.FieldFormat|abi.FieldVerity|abi.FieldScan) == 0
}

// New starts a pool.
func New(o Options) *Pool {
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Entries <= 0 {
		o.Entries = DefaultEntries
	}
	o.Scan.fill()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	// Half of the CPUs: workers have the others, and a higher priority.
	p := &Pool{opts: o, hashes: make(chan job, queued), headers: make(chan job, queued), scans: make(chan job, queued), cpus: make(chan struct{}, max(runtime.NumCPU()/2, 1)),
		now: time.Now, cache: newCache(o.Entries), flights: map[flight][]func(abi.Content){}}
	p.stop, p.halt = context.WithCancel(context.Background())
	for range goroutines {
		p.running.Go(func() { p.run(p.hashes, p.look) })
		p.running.Go(func() { p.run(p.headers, p.look) })
	}
	if o.Scan.Scanner != nil {
		for range o.Scan.AtOnce {
			p.running.Go(func() { p.run(p.scans, p.scan) })
		}
	}
	return p
}

// Submit has a file looked at for the facts of want, and done called once, from another
// goroutine or this one, with what is known: these, and perhaps others beside, all of one
// moment; or nothing, when they cannot be had. It does not block. False: there is no room, and
// done will not be called. A file that nobody has begun to look at after wait is left alone: then
// whoever waited has gone on, and others have not.
func (p *Pool) Submit(o Object, want abi.Fields, wait time.Duration, done func(abi.Content)) bool {
	j, lane := job{o, want, p.now().Add(wait), done}, p.hashes
	if j.quick() {
		lane = p.headers
	}
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
		case lane <- j:
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
		refuse(p.scans) // handed over while those who scan ended
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the pool: a file system keeps %d readers waiting; they end with the process", p.counters.busy.Load())
	}
}

// task is what a lane does with a job.
type task func(*job, *hasher) (abi.Content, error)

func (p *Pool) run(jobs <-chan job, do task) {
	var h hasher
	for {
		select {
		case j := <-jobs:
			p.counters.busy.Add(1)
			p.serve(&j, &h, do)
			p.counters.busy.Add(-1)
		case <-p.stop.Done():
			refuse(jobs)
			return
		}
	}
}

// refuse tells those in a lane that nothing is known.
func refuse(jobs <-chan job) {
	for {
		select {
		case j := <-jobs:
			j.close()
			j.done(abi.Content{})
		default:
			return
		}
	}
}

// serve answers one job. A panic is a bug of ours: its file is not known then.
func (p *Pool) serve(j *job, h *hasher, do task) {
	defer j.close()
	defer func() {
		if v := recover(); v != nil {
			p.bug(v)
			p.tell(j.done, abi.Content{})
		}
	}()
	var c abi.Content
	err := errLate
	if !p.now().After(j.until) {
		c, err = do(j, h)
	}
	switch {
	case errors.Is(err, errElsewhere):
	case err != nil:
		p.counters.unknown[causeOf(err)].Add(1)
		p.tell(j.done, abi.Content{})
	default:
		p.tell(j.done, c)
	}
}

// tell calls done. Should that panic, it is its own loss: others are told too.
func (p *Pool) tell(done func(abi.Content), c abi.Content) {
	defer func() {
		if v := recover(); v != nil {
			p.bug(v)
		}
	}()
	done(c)
}

func (p *Pool) bug(v any) {
	p.opts.Logger.Error("BUG: looking at a file, or telling of it, panicked", slog.Any("panic", v), slog.String("stack", string(debug.Stack())))
}

// errElsewhere: another goroutine tells.
var errElsewhere = errors.New("elsewhere")

// look returns what the job wants to know of its file.
func (p *Pool) look(j *job, h *hasher) (c abi.Content, err error) {
	at := j.File
	if at < 0 {
		if at, err = j.find(); err != nil {
			return c, err
		}
		defer unix.Close(at)
	}
	if j.quick() && generated(at) {
		p.counters.quick(j.want).Add(1)
		return abi.Content{Known: j.want, Format: abi.FormatOther, Verity: abi.Verity{Alg: abi.VerityNone}, Scan: abi.ScanClean}, nil
	}
	if j.File < 0 {
		if j.File, err = readable(at); err != nil {
			return c, err
		}
	}
	s, err := stampOf(j.File)
	if err != nil {
		return c, err
	}
	if j.want == abi.FieldVerity {
		return p.measure(j.File)
	}
	edition, holds := p.editions.last(p.now())
	c, ok := p.remembered(s, edition)
	if !holds && c.Known&abi.FieldScan != 0 {
		if j.want == abi.FieldScan {
			return c, p.await(j)
		}
		c.ForgetScan()
	}
	if ok && j.want&^c.Known == 0 {
		p.counters.hits.Add(1)
		return c, nil
	}
	switch {
	case j.want == abi.FieldScan:
		return c, p.handOver(j)
	case j.quick():
		return p.header(j.File, s)
	case s.size > p.opts.MaxBytes:
		return c, errTooBig
	case !s.lasting(j.File, p.now()):
		c, _, err = p.hash(j.File, s, h)
		return c, err
	}
	return p.once(flight{stamp: s, want: abi.FieldDigest}, j.done, func() (known, stamp, error) {
		c, of, err := p.hash(j.File, s, h)
		return known{Content: c}, of, err
	})
}

// counters are the writable side of Stats.
type counters struct {
	hits, joined, hashed, headers, measured, bytes, refused atomic.Uint64
	unknown                                                 [causes]atomic.Uint64
	busy                                                    atomic.Int64
	scans                                                   scanCounters
}

// quick is the counter of jobs that want that fact, and that take no reading to speak of.
func (c *counters) quick(want abi.Fields) *atomic.Uint64 {
	if want == abi.FieldVerity {
		return &c.measured
	}
	return &c.headers
}

// Stats returns what was counted since New, by name. Every job is among hits, joined, headers,
// measured, hashed or scan.done, which are hashed too, or one of unknown; those that there was no
// room for are refused.
func (p *Pool) Stats() map[string]uint64 {
	c := &p.counters
	m := map[string]uint64{"hits": c.hits.Load(), "joined": c.joined.Load(), "hashed": c.hashed.Load(), "headers": c.headers.Load(), "measured": c.measured.Load(), "bytes": c.bytes.Load(),
		"refused": c.refused.Load(), "busy": uint64(max(c.busy.Load(), 0))}
	for i := range c.unknown {
		m["unknown."+causeNames[i]] = c.unknown[i].Load()
	}
	c.scans.add(m)
	return m
}

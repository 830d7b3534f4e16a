// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

const (
	// heartbeatEvery is how often the daemon says that it is alive. It costs 50
	// short wake-ups a second, under 0.1 % of a core.
	heartbeatEvery = 20 * time.Millisecond
	// spin is how long a task polls that can wait without its CPU afterwards: long
	// enough for a worker that polls, and for a cache miss.
	spin = 20 * time.Microsecond
	// sweepEvery is how many beats pass between two looks for verdicts that nobody
	// takes: 2 s.
	sweepEvery = 100
	// heartbeatLimit is the age at which the kernel side stops to ask: a hung
	// daemon is noticed within 100 ms.
	heartbeatLimit = 100 * time.Millisecond
)

// queueMaps are the maps of bpf/arb_ring.h.
type queueMaps struct {
	header, slots, counts, kick, notices *ebpf.Map
}

// queue is a mapped ring with its heart.
type queue struct {
	*ring.Ring
	maps    queueMaps
	mapped  [][]byte
	kick    *kicker
	parkers []*ring.FDParker
	cpus    unix.CPUSet // of the pinned workers
	stop    atomic.Bool
	stopped chan struct{} // the heart is
	closed  bool
	tick    atomic.Pointer[func()] // called by the heart with every beat
}

// openQueue maps the maps, initialises the ring for one worker per entry of
// cpus, and starts the heart. The queue is not armed.
func openQueue(m queueMaps, cpus []int, wait time.Duration) (_ *queue, err error) {
	q := &queue{maps: m, stopped: make(chan struct{})}
	close(q.stopped) // no heart yet
	defer func() {
		if err != nil {
			q.close()
		}
	}()
	header, err := q.mmap(m.header, 0, ring.HeaderBytes, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("mapping the ring header: %w", err)
	}
	slots, err := q.mmap(m.slots, 0, ring.SlotsBytes, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("mapping the slots: %w", err)
	}
	if q.kick, err = q.newKicker(m.kick); err != nil {
		return nil, fmt.Errorf("mapping the kick buffer: %w", err)
	}
	parkers := make([]ring.Parker, len(cpus))
	for i, cpu := range cpus {
		if cpu >= 0 {
			q.cpus.Set(cpu)
		}
		p, err := ring.NewFDParker(m.kick.FD(), q.kick)
		if err != nil {
			return nil, err
		}
		q.parkers = append(q.parkers, p)
		parkers[i] = p
	}
	if q.Ring, err = ring.New(header, slots, parkers, cpus); err != nil {
		return nil, err
	}
	h := q.Header()
	if h.HostNS, err = hostNamespaces(); err != nil {
		return nil, err
	}
	h.DaemonTGID = uint32(os.Getpid())
	h.WaitNS = uint64(wait)
	h.SpinNS = uint64(spin)
	h.HeartbeatLimitNS = uint64(heartbeatLimit)
	q.stopped = make(chan struct{})
	q.beat()
	go q.heart()
	return q, nil
}

// mmap maps n bytes of a map's memory, rounded up to whole pages.
func (q *queue) mmap(m *ebpf.Map, offset int64, n, prot int) ([]byte, error) {
	page := unix.Getpagesize()
	b, err := unix.Mmap(m.FD(), offset, (n+page-1)/page*page, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	q.mapped = append(q.mapped, b)
	return b, nil
}

func (q *queue) beat() {
	now := monotonic()
	atomic.StoreInt64(&q.Header().RealtimeOffset, time.Now().UnixNano()-now)
	atomic.StoreUint64(&q.Header().HeartbeatNS, uint64(now))
}

// heart beats on a thread of its own, above all ordinary ones: it runs for a few
// microseconds at a time, and on a machine full of work it would be late otherwise
// and the hooks would believe that nobody is there. It sleeps in the kernel and not
// in the Go scheduler, whose timers wait for an ordinary thread: with 40 busy loops
// on 2 CPUs a Ticker was up to 294 ms late, the sleep 5 ms.
func (q *queue) heart() {
	defer close(q.stopped)
	runtime.LockOSThread() // never unlocked: the thread ends with its priority
	// Without the privilege it beats as an ordinary thread.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1}, 0)
	every := unix.NsecToTimespec(int64(heartbeatEvery))
	for beats := 0; !q.stop.Load(); beats++ {
		q.beat()
		if tick := q.tick.Load(); tick != nil {
			(*tick)()
		}
		if beats%sweepEvery == 0 {
			q.SweepUnwound()
			// A worker runs in user mode and can be preempted; a requester that polls
			// in the kernel perhaps cannot. So the heart lives where the workers are,
			// and goes back there when their CPUs were offline for a time.
			if q.cpus.Count() > 0 {
				_ = unix.SchedSetaffinity(0, &q.cpus) // else it beats wherever it may
			}
		}
		_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &every, nil) // EINTR: it beats early
	}
}

// arm makes the hooks ask, or stop asking.
func (q *queue) arm(on bool) {
	var v uint64
	if on {
		v = 1
	}
	atomic.StoreUint64(&q.Header().Armed, v)
}

// setPolicy says what to ask about, which facts to fetch and what the failure verdicts
// are. Verdicts that are still on their way to a system call that runs again are void.
func (q *queue) setPolicy(p Policy) {
	h := q.Header()
	both := p.Want
	for e := range both {
		both[e] &= abi.Fields(h.Want[e])
	}
	q.Fetches(atomic.LoadUint64(&h.Epoch), &both)
	for e := range p.Want {
		atomic.StoreUint32(&h.Want[e], uint32(p.Want[e]))
		atomic.StoreUint32(&h.Keep[e], uint32(p.Keep[e]))
		h.FailErrno[e] = min(p.OnFail[e].Errno, abi.MaxErrno) // a single aligned 16-bit store
	}
	atomic.StoreUint64(&h.SleepNS, uint64(p.Sleep))
	atomic.StoreUint64(&h.Asked, p.Asked)
	q.Fetches(atomic.AddUint64(&h.Epoch, 1), &p.Want)
}

// Counts are the kernel side's counters of one event: Asked = Cached + Decided + Answered +
// the sum of Failed, but for requests that are open at the moment of the read.
type Counts struct {
	Asked    uint64
	Cached   uint64 // allowed by the cache in the kernel
	Decided  uint64 // by rules that the kernel knows
	Answered uint64
	Failed   [abi.KernelReasons]uint64
	Killed   uint64 // tasks killed while they waited; among Failed too
}

// Counts returns the counters of an event since the queue was opened.
func (q *queue) Counts(e abi.Event) (Counts, error) {
	var perCPU []Counts
	if err := q.maps.counts.Lookup(uint32(e), &perCPU); err != nil {
		return Counts{}, fmt.Errorf("reading the counters of %s: %w", e, err)
	}
	var sum Counts
	for _, c := range perCPU {
		sum.Asked += c.Asked
		sum.Cached += c.Cached
		sum.Decided += c.Decided
		sum.Answered += c.Answered
		sum.Killed += c.Killed
		for r, n := range c.Failed {
			sum.Failed[r] += n
		}
	}
	return sum, nil
}

// close stops the heart and unmaps everything. The programs must be detached and
// the workers stopped.
func (q *queue) close() error {
	if q.closed {
		return nil
	}
	q.closed = true
	q.stop.Store(true)
	<-q.stopped // within heartbeatEvery
	var errs []error
	for _, p := range q.parkers {
		errs = append(errs, p.Close())
	}
	for _, b := range q.mapped {
		errs = append(errs, unix.Munmap(b))
	}
	return errors.Join(errs...)
}

// monotonic returns CLOCK_MONOTONIC in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // cannot fail with a valid pointer
	return ts.Nano()
}

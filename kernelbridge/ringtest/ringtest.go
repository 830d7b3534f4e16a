// SPDX-License-Identifier: Apache-2.0

// Package ringtest is an in-process kernel side of the queue: what the BPF
// programs do, done by goroutines over ordinary mapped memory. Everything above the
// ring is tested, raced, fuzzed and timed with it, on any machine and without
// privileges.
//
// It follows bpf/arb_ring.h step by step, in the same order.
package ringtest

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/detached"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// Kernel is a ring with its asking side. Ask may be called concurrently.
type Kernel struct {
	*ring.Ring
	// PollFor is after how long whoever asks looks every SleepStep only, and sleeps in between,
	// as a task does that goes to the gate: it wakes a parked worker first. 0: it polls all the time. Set it before anybody asks; who
	// asks then keeps a processor of the Go runtime while it sleeps.
	PollFor time.Duration

	memory, kick  int // descriptors
	header, slots []byte
	parkers       []*ring.FDParker
	start         atomic.Uint32
	counts        [abi.EventCount]Counts
}

// SleepStep is how long one sleep of whoever asks lasts, see Kernel.PollFor.
const SleepStep = 20 * time.Microsecond

// Counts are what the asking side counted: Asked = Answered + the sum of Failed
// when nobody asks.
type Counts struct {
	Asked, Answered atomic.Uint64
	Failed          [abi.ReasonCount]atomic.Uint64
}

// New returns a ring for that many workers, armed, with a wait bound of 1 s.
func New(workers int) (_ *Kernel, err error) {
	k := &Kernel{memory: -1, kick: -1}
	defer func() {
		if err != nil {
			err = errors.Join(err, k.Close())
		}
	}()
	if k.memory, err = unix.MemfdCreate("arbiter-ring", unix.MFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("making the ring's memory: %w", err)
	}
	if err := unix.Ftruncate(k.memory, int64(pages(ring.HeaderBytes)+pages(ring.SlotsBytes))); err != nil {
		return nil, fmt.Errorf("making the ring's memory: %w", err)
	}
	if k.kick, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("creating the kick: %w", err)
	}
	if err := k.mmap(); err != nil {
		return nil, err
	}
	var parkers []ring.Parker
	var cpus []int
	for range workers {
		p, err := ring.NewFDParker(k.kick, ring.EventfdKick(k.kick))
		if err != nil {
			return nil, err
		}
		k.parkers = append(k.parkers, p)
		parkers, cpus = append(parkers, p), append(cpus, -1)
	}
	if k.Ring, err = ring.New(k.header, k.slots, parkers, cpus); err != nil {
		return nil, err
	}
	h := k.Header()
	atomic.StoreUint64(&h.WaitNS, uint64(time.Second))
	atomic.StoreUint64(&h.Armed, 1)
	return k, nil
}

// Files returns what a process that asks needs to Join: two descriptors of this one, which
// Close closes.
func (k *Kernel) Files() (memory, kick int) { return k.memory, k.kick }

// Join returns the asking side of the ring of another process, whose Files have come here
// under these descriptors. They are the Kernel's from then on, in a failure too. It has no sources.
func Join(memory, kick int) (*Kernel, error) {
	k := &Kernel{memory: memory, kick: kick}
	err := k.mmap()
	if err == nil {
		k.Ring, err = ring.Join(k.header, k.slots)
	}
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// pages rounds a number of bytes up to whole pages.
func pages(n int) int {
	page := unix.Getpagesize()
	return (n + page - 1) / page * page
}

// mmap maps the header and, behind it, the slots.
func (k *Kernel) mmap() (err error) {
	header, slots := pages(ring.HeaderBytes), pages(ring.SlotsBytes)
	if k.header, err = unix.Mmap(k.memory, 0, header, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping the ring's header: %w", err)
	}
	if k.slots, err = unix.Mmap(k.memory, int64(header), slots, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("mapping the ring's slots: %w", err)
	}
	return nil
}

// Close unmaps everything. Nobody may ask or work any more.
func (k *Kernel) Close() error {
	var errs []error
	for _, p := range k.parkers {
		errs = append(errs, p.Close())
	}
	k.parkers = nil
	for _, b := range []*[]byte{&k.header, &k.slots} {
		if *b != nil {
			errs = append(errs, unix.Munmap(*b))
			*b = nil
		}
	}
	for _, fd := range []*int{&k.memory, &k.kick} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
			*fd = -1
		}
	}
	return errors.Join(errs...)
}

// Counts returns the counters of an event.
func (k *Kernel) Counts(e abi.Event) *Counts { return &k.counts[e] }

// Answer is how a question ended.
type Answer struct {
	Errno  uint16     // 0: allowed
	Reason abi.Reason // why it is a failure verdict, ReasonNone for a worker's verdict
}

// question is a claimed slot that has not been posted yet.
type question struct {
	k     *Kernel
	index int
	gen   uint32
	event abi.Event
	facts ring.Facts
}

// Ask claims a slot, posts the question and waits for its verdict, at most
// Header.WaitNS. PostedNS is set if zero; PathLen and ExeLen are.
func (k *Kernel) Ask(f ring.Facts, path, exe string) Answer {
	c := &k.counts[f.Event]
	c.Asked.Add(1)
	q, ok := k.claim(f)
	if !ok {
		return k.fail(f.Event, abi.ReasonRingFull)
	}
	q.fill(path, exe)
	return q.arbitrate()
}

func (k *Kernel) claim(f ring.Facts) (*question, bool) {
	start := int(k.start.Add(1)) * 8 // each caller has its own part, as each CPU has
	for i := range abi.Slots {
		index := (start + i) % abi.Slots
		slot := k.Slot(index)
		word := abi.Word(atomic.LoadUint64(&slot.Word))
		if word.State() != abi.Free {
			continue
		}
		gen := word.Gen() + 1
		if atomic.CompareAndSwapUint64(&slot.Word, uint64(word), uint64(abi.MakeWord(gen, abi.Filling, 0))) {
			return &question{k: k, index: index, gen: gen, event: abi.Event(f.Event), facts: f}, true
		}
	}
	return nil, false
}

func (q *question) fill(path, exe string) {
	slot := q.k.Slot(q.index)
	if q.facts.PostedNS == 0 {
		q.facts.PostedNS = uint64(Now())
	}
	q.facts.PathLen, q.facts.ExeLen = uint32(len(path)), uint32(len(exe))
	ring.StoreFacts(&slot.Facts, &q.facts)
	ring.StoreBytes(&slot.Path, []byte(path))
	ring.StoreBytes(&slot.Exe, []byte(exe))
}

func (q *question) arbitrate() Answer {
	q.post()
	return q.settle(q.wait())
}

// post puts the question to the workers, and wakes them if none polls.
func (q *question) post() {
	h := q.k.Header()
	atomic.StoreUint64(&q.k.Slot(q.index).Word, uint64(abi.MakeWord(q.gen, abi.Posted, 0)))
	atomic.OrUint64(&h.Posted[q.index/64], 1<<(q.index%64))
	if atomic.LoadUint64(&h.Hot) == 0 {
		kickOnce(q.k.kick)
	}
}

// wait returns the word when it says DONE, or at the latest after Header.WaitNS.
func (q *question) wait() abi.Word {
	slot := q.k.Slot(q.index)
	begin, asleep := Now(), false
	deadline := begin + int64(atomic.LoadUint64(&q.k.Header().WaitNS))
	for i := 1; ; i++ {
		word := abi.Word(atomic.LoadUint64(&slot.Word))
		if word.State() == abi.Done || i%32 == 0 && Now() > deadline {
			return word
		}
		poll := q.k.PollFor
		if poll > 0 && i%32 == 0 && Now()-begin > int64(poll) {
			if !asleep {
				asleep = true
				kickOnce(q.k.kick)
			}
			Sleep(SleepStep)
		}
		if poll == 0 && i%256 == 0 {
			runtime.Gosched() // goroutines may outnumber processors, tasks in a hook cannot
		}
	}
}

// settle ends the question: by the answer in word, or by giving up, unless the answer
// comes at that very moment.
func (q *question) settle(word abi.Word) Answer {
	slot := q.k.Slot(q.index)
	if word.State() != abi.Done || word.Gen() != q.gen {
		posted := abi.MakeWord(q.gen, abi.Posted, 0)
		abandoned := uint64(abi.MakeWord(q.gen, abi.Abandoned, 0))
		gaveUp := atomic.CompareAndSwapUint64(&slot.Word, uint64(posted), abandoned) ||
			atomic.CompareAndSwapUint64(&slot.Word, uint64(posted.With(abi.Taken)), abandoned)
		word = abi.Word(atomic.LoadUint64(&slot.Word))
		if gaveUp {
			a := q.k.fail(uint32(q.event), abi.ReasonDeadline)
			q.free()
			return a
		}
	}
	q.free()
	if word.State() != abi.Done || word.Gen() != q.gen {
		return q.k.fail(uint32(q.event), abi.ReasonWorkerError)
	}
	q.k.counts[q.event].Answered.Add(1)
	return Answer{Errno: word.Errno()}
}

func (q *question) free() {
	atomic.StoreUint64(&q.k.Slot(q.index).Word, uint64(abi.MakeWord(q.gen, abi.Free, 0)))
}

func (k *Kernel) fail(event uint32, reason abi.Reason) Answer {
	k.counts[event].Failed[reason].Add(1)
	return Answer{Errno: k.Header().FailErrno[event], Reason: reason}
}

// Now returns CLOCK_MONOTONIC, nanoseconds.
func Now() int64 { return detached.Now() }

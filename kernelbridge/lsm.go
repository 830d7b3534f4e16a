// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// LSMOptions configures OpenLSM.
type LSMOptions struct {
	CPUs []int         // one worker per entry, pinned there; below 0 for nowhere
	Wait time.Duration // bound of one wait in the kernel, at most MaxWait
	// Spin is how long a task polls that can wait otherwise afterwards, 0 for 20 µs, and
	// Heartbeat how old the last beat of the heart may be before nobody is asked any more, 0
	// for 100 ms: for measurements on emulated machines.
	Spin, Heartbeat time.Duration
	// OnFailure is told of every failure verdict that the kernel side gave by
	// itself, from one goroutine. Nil: nobody is. The failure is the callee's.
	OnFailure func(*abi.Failure)
	// Beat is called with every beat of the heart, 50 times a second, for package
	// guard. It must not block. Nil: nothing.
	Beat   func()
	Logger *slog.Logger // nil discards
	// Survive is what the hooks do once this process is dead; nil: they end with it.
	Survive *Survive
}

// MaxWait bounds LSMOptions.Wait. The hot rung holds a CPU while it waits, and on
// a kernel without preemption nothing else runs there.
const MaxWait = 100 * time.Millisecond

// LSM is the BPF LSM backend: programs on LSM hooks that hold the calling task until a
// worker answers.
type LSM struct {
	hooks   *hookSet
	queue   *queue
	gates   *gates // nil: tasks poll
	noGate  error  // why
	death   *death // nil: the hooks end with this process
	notices *ringbuf.Reader
	logger  *slog.Logger
	wg      sync.WaitGroup
	tending sync.WaitGroup

	mu     sync.Mutex // serialises Configure, Arm and Close
	closed bool
	keys   scopeKeys // of the scope and the mute in force
	swept  bool      // the maps have no other entries
	asked  uint64    // Policy.Asked in force
	decide decider

	lineage lineage
	stop    chan struct{} // closed by Close
}

// ErrClosed is returned by a backend that has been closed.
var ErrClosed = errors.New("the LSM backend is closed")

// OpenLSM loads and attaches the programs. Nothing is asked before Configure has
// given a scope and Arm was called. The error is an UnsupportedError where the
// kernel has no BPF LSM.
func OpenLSM(o LSMOptions) (_ *LSM, err error) {
	if o.Wait <= 0 || o.Wait > MaxWait {
		return nil, fmt.Errorf("opening the LSM backend: a wait of %v; give more than 0 and at most %v", o.Wait, MaxWait)
	}
	b := &LSM{logger: o.Logger, swept: true, stop: make(chan struct{})}
	if b.logger == nil {
		b.logger = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(lsmActive(), hostPIDs()); err != nil {
		return nil, err
	}
	if b.hooks, err = loadHookSet(b.logger); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	for _, err := range b.hooks.unavailable(openAndExec) {
		return nil, err
	}
	m := &b.hooks.maps
	b.lineage.maps = m
	b.decide.rules, b.decide.patterns, b.decide.lens = m.ArbRules, m.ArbPatterns, m.ArbLens
	b.queue, err = openQueue(queueMaps{m.ArbHeader, m.ArbSlots, m.ArbCounts, m.ArbKick, m.ArbNotices}, o.CPUs, o.Wait)
	if err != nil {
		return nil, err
	}
	if o.Spin > 0 {
		atomic.StoreUint64(&b.queue.Header().SpinNS, uint64(o.Spin))
	}
	if o.Heartbeat > 0 {
		atomic.StoreUint64(&b.queue.Header().HeartbeatLimitNS, uint64(o.Heartbeat))
	}
	if b.noGate = CanSleep(); b.noGate == nil {
		b.gates, b.noGate = newGates(b.queue, b.logger)
	}
	tick := func() {
		if b.gates != nil {
			b.gates.tick()
		}
		if o.Beat != nil {
			o.Beat()
		}
	}
	b.queue.tick.Store(&tick)
	if b.notices, err = ringbuf.NewReader(m.ArbNotices); err != nil {
		return nil, fmt.Errorf("reading the failure notices: %w", err)
	}
	if err := b.survive(o.Survive); err != nil {
		return nil, err
	}
	b.wg.Go(func() { b.readNotices(o.OnFailure) })
	b.tending.Go(b.tend)
	return b, nil
}

// openAndExec are the events without which there is no backend.
const openAndExec = 1<<abi.EventOpen | 1<<abi.EventExec

// Unavailable returns those of the given events (bit e for event e) that this kernel
// cannot ask about, and why. It loads their programs if they are not yet.
func (b *LSM) Unavailable(asked uint64) map[abi.Event]error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	return b.hooks.unavailable(asked)
}

// ExemptGuard lets the guard of the daemon go unasked: one process, by its id.
func (b *LSM) ExemptGuard(pid int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	atomic.StoreUint32(&b.queue.Header().GuardTGID, uint32(pid))
	return nil
}

// NoGate says why there has never been a gate here, so that a task that waits keeps its
// CPU; nil when there is one.
func (b *LSM) NoGate() error { return b.noGate }

// GateLost reports whether there was a gate, and none stays: tasks poll from then on.
func (b *LSM) GateLost() bool { return b.gates != nil && b.gates.gone.Load() }

// GateRefused returns how many waits another LSM, such as SELinux, has refused at the gate
// so far: those tasks polled.
func (b *LSM) GateRefused() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0
	}
	return atomic.LoadUint64(&b.queue.Header().GateRefused)
}

// CanSleep says why LSM programs cannot sleep at a gate on this kernel; nil: they can.
func CanSleep() error {
	spec, err := LoadBTF("")
	if err != nil {
		return err
	}
	if missing := capabilities(spec).sleep; missing != "" {
		return &UnsupportedError{"sleeping in LSM programs", "boot a kernel of 6.12 or later", errors.New(missing)}
	}
	return nil
}

// Sources returns one source per worker.
func (b *LSM) Sources() []*ring.Source { return b.queue.Sources() }

// Counts returns the kernel side's counters of an event.
func (b *LSM) Counts(e abi.Event) (Counts, error) { return b.queue.Counts(e) }

// Claims returns how many times the hooks have claimed a slot. What is more than there were
// questions are system calls that ran again: that were unwound.
func (b *LSM) Claims() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0
	}
	return b.queue.Claims()
}

// Arm makes the hooks ask (true) or allow everything at once (false).
func (b *LSM) Arm(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.queue.arm(on)
	}
}

// Epoch returns the number of the policy in force: it grows with each Configure.
func (b *LSM) Epoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return 0
	}
	return atomic.LoadUint64(&b.queue.Header().Epoch)
}

// Watch says whether somebody wants to be told of plain allows. Then the kernel side gives
// none by itself, and forgets what it has kept.
func (b *LSM) Watch(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.queue.watch(on)
	}
}

// lsmActive reports whether "bpf" is among the active LSMs.
func lsmActive() error {
	list, err := os.ReadFile("/sys/kernel/security/lsm")
	if err != nil {
		return nil // securityfs is not mounted: loading and attaching will tell
	}
	if !containsWord(string(list), "bpf") {
		return &UnsupportedError{"BPF LSM", fmt.Sprintf("add bpf to the kernel's lsm= parameter (now %q) and reboot", string(list)), nil}
	}
	return nil
}

// hostPIDs reports whether process ids mean here what they mean to the kernel: the
// hooks know the daemon by its id.
func hostPIDs() error {
	// PROC_PID_INIT_INO, include/linux/proc_ns.h.
	if link, err := os.Readlink("/proc/self/ns/pid"); err == nil && link != "pid:[4026531836]" {
		return &UnsupportedError{"BPF LSM in a pid namespace", "run the daemon in the host's (containers: --pid=host)", nil}
	}
	return nil
}

// readNotices hands failures to f until the reader is closed.
func (b *LSM) readNotices(f func(*abi.Failure)) {
	var rec ringbuf.Record
	var n notice
	for {
		if err := b.notices.ReadInto(&rec); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				b.logger.Error("reading failure notices", slog.Any("error", err))
			}
			return
		}
		if f == nil {
			continue
		}
		if _, err := binary.Decode(rec.RawSample, binary.NativeEndian, &n); err != nil {
			b.logger.Error("decoding a failure notice", slog.Any("error", err))
			continue
		}
		f(n.failure())
	}
}

// Close disarms and detaches the hooks and unmaps the queue. Tasks that wait at
// that moment go on within the wait bound. The workers must be stopped first. It
// may be called more than once.
func (b *LSM) Close() error {
	err := b.close()
	b.tending.Wait()
	return err
}

func (b *LSM) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	close(b.stop)
	var errs []error
	if b.queue != nil {
		b.queue.arm(false)
	}
	if b.hooks != nil {
		errs = append(errs, b.hooks.detachOthers(0))
	}
	if b.death != nil {
		errs = append(errs, b.death.close())
	}
	if b.gates != nil {
		b.gates.abort()
	}
	if b.notices != nil {
		errs = append(errs, b.notices.Close())
		b.wg.Wait()
		b.notices = nil
	}
	if b.queue != nil {
		errs = append(errs, b.queue.close())
	}
	if b.gates != nil {
		errs = append(errs, b.gates.close())
	}
	errs = append(errs, b.lineage.close())
	if b.hooks != nil {
		errs = append(errs, b.hooks.close())
	}
	return errors.Join(errs...)
}

// containsWord reports whether a comma-separated list has the word.
func containsWord(list, word string) bool {
	return slices.Contains(strings.Split(strings.TrimSpace(list), ","), word)
}

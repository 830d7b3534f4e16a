// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// NativeOptions configures OpenNative.
type NativeOptions struct {
	CPUs []int         // one worker per entry, pinned there; below 0 for nowhere
	Wait time.Duration // bound of one wait in the kernel
}

// Native is the real queue without a hook: a BPF program asks, by the same
// function as the LSM hooks. Asking does not hold anybody but the asking thread.
type Native struct {
	objs     nativeQueueObjects
	queue    *queue
	question *ring.Slot
	samples  []uint64
	stages   []uint64  // stageWords for each question
	keys     scopeKeys // what Arm has put into the maps
	decide   decider
	runner   *nativeRun
}

// OpenNative loads the program. It needs CAP_BPF and CAP_PERFMON, and a kernel
// with BPF_PROG_TYPE_SYSCALL, bpf_loop, BTF and hash tables that grow in sleepable programs (6.1).
func OpenNative(o NativeOptions) (_ *Native, err error) {
	n := &Native{runner: new(nativeRun)}
	if err := loadNativeQueueObjects(&n.objs, nil); err != nil {
		return nil, loadError("native queue", err)
	}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	m := &n.objs
	n.decide = decider{rules: m.ArbRules, patterns: m.ArbPatterns, lens: m.ArbLens}
	n.queue, err = openQueue(queueMaps{m.ArbHeader, m.ArbSlots, m.ArbCounts, m.ArbKick, m.ArbNotices}, o.CPUs, o.Wait)
	if err != nil {
		return nil, err
	}
	b, err := n.queue.mmap(m.ArbQuestion, 0, int(m.ArbQuestion.ValueSize()), unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("mapping the question: %w", err)
	}
	n.question = ring.SlotOf(b)
	b, err = n.queue.mmap(m.ArbSamples, 0, int(m.ArbSamples.MaxEntries())*8, unix.PROT_READ|unix.PROT_WRITE)
	if err != nil {
		return nil, fmt.Errorf("mapping the samples: %w", err)
	}
	n.samples = samplesOf(b)
	if b, err = n.queue.mmap(m.ArbStages, 0, int(m.ArbStages.MaxEntries())*stageWords*8, unix.PROT_READ); err != nil {
		return nil, fmt.Errorf("mapping the stages: %w", err)
	}
	n.stages = samplesOf(b)
	n.SetQuestion(ring.Facts{Event: uint32(abi.EventOpen), Access: uint32(abi.AccessRead)},
		"/usr/lib/x86_64-linux-gnu/libc.so.6", "/usr/bin/true")
	return n, nil
}

// Sources returns one source per worker.
func (n *Native) Sources() []*ring.Source { return n.queue.Sources() }

// Keep says what an exec that is kept depends on.
func (n *Native) Keep(f abi.Fields) {
	n.queue.setPolicy(Policy{Keep: [abi.EventCount]abi.Fields{abi.EventExec: f | abi.FieldKeep}})
}

// Configure says which facts are fetched and what the failure verdicts are.
func (n *Native) Configure(want [abi.EventCount]abi.Fields, onFail [abi.EventCount]abi.Verdict) {
	n.queue.setPolicy(Policy{Want: want, OnFail: onFail})
}

// SetQuestion says what the next Run asks about. Facts of the subject are the
// asking thread's own. Not while a Run is under way.
func (n *Native) SetQuestion(f ring.Facts, path, exe string) {
	f.PathLen, f.ExeLen = uint32(len(path)), uint32(len(exe))
	n.question.Facts = f
	copy(n.question.Path[:], path+"\x00")
	copy(n.question.Exe[:], exe+"\x00")
}

// Counts returns the kernel side's counters of an event.
func (n *Native) Counts(e abi.Event) (Counts, error) { return n.queue.Counts(e) }

// runChunk is how many questions one program run asks: half a millisecond of them.
// A kernel without preemption runs nothing else on that CPU meanwhile, and that may
// be a thread of the Go runtime for which all others wait.
const runChunk = 1000

// Run asks len(took) times, one question after another, on the given CPU (below 0:
// wherever), and stores how long each took, nanoseconds, measured in the kernel
// around all of it. It returns the last verdict. The calling goroutine is locked to
// its thread meanwhile. One Run at a time.
func (n *Native) Run(cpu int, took []uint64) (abi.Verdict, error) {
	last, err := n.run(n.objs.ArbNative, cpu, took)
	return abi.Verdict{Errno: uint16(-last)}, err
}

// RunEach is Run with a question of its own for each ask: prepare sets question i, by
// SetQuestion, while nobody waits.
func (n *Native) RunEach(cpu int, took []uint64, prepare func(i int)) error {
	return pinned(cpu, func() error {
		for i := range took {
			prepare(i)
			if _, err := n.runner.once(n.objs.ArbNative, 1); err != nil {
				return err
			}
			took[i] = n.samples[0]
		}
		return nil
	})
}

// RunCached is Run for the verdict cache: it looks for an exec of the caller's own
// executable, which it keeps when it is not there. It reports whether the last look was
// a hit. What Configure lets be kept matters, the workers do not.
func (n *Native) RunCached(cpu int, took []uint64) (hit bool, err error) {
	last, err := n.run(n.objs.ArbNativeCached, cpu, took)
	return last == 1, err
}

// Decide says by which rules the kernel side decides alone. Not while a RunDecided is under way.
func (n *Native) Decide(rules [abi.EventCount][]abi.KernelRule) error {
	words, err := n.decide.write(rules)
	if err != nil {
		return err
	}
	n.decide.enforce(n.queue.Header(), words)
	return nil
}

// RunDecided is Run for the rules of Decide. False when they leave the question to a worker;
// nobody is asked. The path of the question counts as known if it is not empty.
func (n *Native) RunDecided(cpu int, took []uint64) (v abi.Verdict, decided bool, err error) {
	n.question.Facts.Epoch = n.queue.Header().Epoch
	last, err := n.run(n.objs.ArbNativeDecided, cpu, took)
	return abi.Verdict{Errno: uint16(-min(last, 0))}, last <= 0, err
}

func (n *Native) run(prog *ebpf.Program, cpu int, took []uint64) (last int32, err error) {
	err = pinned(cpu, func() error {
		for len(took) > 0 {
			count := min(len(took), runChunk)
			if last, err = n.runner.once(prog, count); err != nil {
				return err
			}
			took = took[copy(took, n.samples[:count]):]
		}
		return nil
	})
	return last, err
}

// pinned calls f on a thread of its own that runs on the CPU, below 0: wherever.
func pinned(cpu int, f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if cpu >= 0 {
		var before, set unix.CPUSet
		if err := unix.SchedGetaffinity(0, &before); err != nil {
			return fmt.Errorf("reading the thread's affinity: %w", err)
		}
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("pinning to CPU %d: %w", cpu, err)
		}
		defer unix.SchedSetaffinity(0, &before)
	}
	return f()
}

// Close unmaps and unloads everything. The workers must be stopped.
func (n *Native) Close() error {
	var err error
	if n.queue != nil {
		err = n.queue.close()
	}
	return errors.Join(err, n.objs.Close())
}

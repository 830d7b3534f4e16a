// SPDX-License-Identifier: Apache-2.0

package asker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
)

// names is how many files are asked about: few, so that all are in the caches.
const names = 64

// priority of the thread that asks, of SCHED_FIFO: what else runs on its CPU is not what is
// measured. It sleeps nearly all of the time.
const priority = 1

// yieldEvery is how often the asking thread lets the Go runtime have its processor, between two
// questions: one that keeps it for 10 ms is preempted, anywhere. Otherwise the thread is nothing
// to the runtime (see ringtest.Sleep), which with system calls of the usual kind looks after it
// every 20 µs, on the CPU that others need, and in between can have it spin for a thread
// that its own priority keeps from running.
const yieldEvery = 5 * time.Millisecond

// The descriptors of Kernel.Files in the process.
const memoryFD, kickFD = 3, 4

// Main is the process: args are the CPU and the prefix. It carries out one order on in after
// another, until that ends.
func Main(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return errors.New("the asker is started by a scenario itself")
	}
	cpu, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("CPU %q: %w", args[0], err)
	}
	k, err := ringtest.Join(memoryFD, kickFD)
	if err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	runtime.GOMAXPROCS(2)  // one is the asking thread's, also while it sleeps
	runtime.LockOSThread() // never unlocked: the process has nothing else to do
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pinning to CPU %d: %w", cpu, err)
	}
	// Without the privilege it does without.
	_ = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: priority}, 0)
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // else each sleep is 50 µs longer
	k.PollFor = PollFor
	p := process{kernel: k, orders: make(chan Order), ended: make(chan error, 1)}
	for i := range p.paths {
		p.paths[i] = fmt.Sprintf("%s%02d", args[1], i)
	}
	go p.read(in)
	return errors.Join(p.serve(out), k.Close())
}

// process is the asker's side of an Asker.
type process struct {
	kernel *ringtest.Kernel
	paths  [names]string
	orders chan Order
	stop   atomic.Bool // the order at hand
	ended  chan error
}

// read passes orders on; one without samples ends the one at hand.
func (p *process) read(in io.Reader) {
	dec := json.NewDecoder(in)
	for {
		var o Order
		if err := dec.Decode(&o); err != nil {
			p.stop.Store(true)
			if errors.Is(err, io.EOF) {
				err = nil
			}
			p.ended <- err
			return
		}
		if o.Samples == 0 {
			p.stop.Store(true)
			continue
		}
		p.stop.Store(false)
		p.orders <- o
	}
}

func (p *process) serve(out io.Writer) error {
	for {
		select {
		case err := <-p.ended:
			return err
		case o := <-p.orders:
			answers := p.ask(o)
			if err := errors.Join(binary.Write(out, binary.NativeEndian, uint32(len(answers))), binary.Write(out, binary.NativeEndian, answers)); err != nil {
				return fmt.Errorf("reporting answers: %w", err)
			}
		}
	}
}

func (p *process) ask(o Order) []Answer {
	answers := make([]Answer, o.Samples)
	clear(answers) // touch the pages now, not while the clock runs
	facts := ring.Facts{Event: uint32(abi.EventOpen), Access: uint32(abi.AccessRead), UID: 1000, EUID: 1000}
	end := ringtest.Now() + int64(o.Budget)
	n := 0
	yielded := ringtest.Now()
	for n < len(answers) && !p.stop.Load() {
		begin := ringtest.Now()
		if begin > end {
			break
		}
		a := p.kernel.Ask(facts, p.paths[n%names], "/usr/bin/cat")
		took := ringtest.Now() - begin
		answers[n] = Answer{Begin: begin, Took: uint32(min(took, math.MaxUint32)), Errno: a.Errno, Failed: a.Reason != abi.ReasonNone}
		n++
		if begin-yielded > int64(yieldEvery) {
			runtime.Gosched()
			yielded = begin
		}
		if o.Pace > 0 {
			ringtest.Sleep(o.Pace) // cut short by a signal: the next question is early
		}
	}
	return answers[:n]
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// means is one thing that keeps the Go runtime away from verdicts, left out. The zero value leaves
// nothing out; each function may be nil. One with a source leaves out as well that the worker is
// detached: what stands before it cannot be.
type means struct {
	id, what string
	alone    bool                                          // there is one worker
	together bool                                          // arbiter.Config.Apart is not set
	started  func() error                                  // is called when the engine runs
	runtime  func()                                        // changes the runtime of the process
	source   func(arbiter.Source) (arbiter.Source, func()) // stands before the worker's source; with what ends it
}

var (
	fewProcs   = means{id: "procs", what: "GOMAXPROCS as many as CPUs", runtime: func() { runtime.GOMAXPROCS(runtime.NumCPU()) }}
	ordinary   = means{id: "nice", what: "the worker at nice 0", started: ordinaryThreads}
	alone      = means{id: "alone", what: "one worker", alone: true}
	attached   = means{id: "attached", what: "the worker is a goroutine as any", source: attachedSource}
	together   = means{id: "together", what: "one worker, others on its CPU, too", alone: true, together: true}
	allocating = means{id: "allocating", what: "each verdict allocates", source: allocatingSource}
	onHeap     = means{id: "channel", what: "requests on the heap, by a channel", source: channelSource}
	limited    = means{id: "limit", what: "GOGC=off, GOMEMLIMIT=256MiB", runtime: func() {
		debug.SetGCPercent(-1)
		debug.SetMemoryLimit(256 << 20)
	}}
)

// ordinaryThreads gives all threads of the process the priority of any other.
func ordinaryThreads() error {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("listing the threads: %w", err)
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return fmt.Errorf("listing the threads: %w", err)
		}
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, 0) // it may have ended
	}
	return nil
}

// attachedSource hides what lets the worker detach.
func attachedSource(s arbiter.Source) (arbiter.Source, func()) {
	return struct{ arbiter.Source }{s}, nil
}

func allocatingSource(s arbiter.Source) (arbiter.Source, func()) { return &allocator{Source: s}, nil }

// allocator makes what a program would that has a string for each text and a structure for each
// request.
type allocator struct {
	arbiter.Source
	last atomic.Pointer[request]
}

type request struct {
	path, exe string
	facts     map[string]uint64
}

func (a *allocator) Next(r *abi.Request) bool {
	if !a.Source.Next(r) {
		return false
	}
	a.last.Store(&request{string(r.Path()), string(r.Exe()), map[string]uint64{"uid": uint64(r.UID), "gid": uint64(r.GID), "tgid": uint64(r.TGID)}})
	return true
}

// channelSource passes requests on by a channel of pointers: who reads the queue and who decides
// are two goroutines, as a program would have it that leaves waiting to the scheduler of Go.
func channelSource(s arbiter.Source) (arbiter.Source, func()) {
	c := &channel{Source: s, requests: make(chan *abi.Request, 1), wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go c.read()
	return c, func() { close(c.stop); s.Wake(); <-c.ended }
}

// channel is the worker's end of it. The copy of a request is one more than a program would
// make that has no fixed place for it.
type channel struct {
	arbiter.Source
	requests    chan *abi.Request
	wake        chan struct{} // buffer of one
	stop, ended chan struct{}
	parked      *abi.Request // what ended Park
}

func (c *channel) read() {
	defer close(c.ended)
	for {
		r := new(abi.Request)
		for !c.Source.Next(r) {
			select {
			case <-c.stop:
				return
			default:
				c.Source.Park(time.Millisecond)
			}
		}
		select {
		case c.requests <- r:
		case <-c.stop:
			return
		}
	}
}

func (c *channel) Next(r *abi.Request) bool {
	got := c.parked
	c.parked = nil
	if got == nil {
		select {
		case got = <-c.requests:
		default:
			return false
		}
	}
	*r = *got
	return true
}

func (c *channel) Park(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case c.parked = <-c.requests:
	case <-c.wake:
	case <-timer.C:
	}
}

func (c *channel) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

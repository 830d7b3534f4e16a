// SPDX-License-Identifier: Apache-2.0

package rulepush

import (
	"fmt"
	"math"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// pace is what is between two asks: some thousand a second leave the CPU to the push,
// and the worker awake.
const pace = 100 * time.Microsecond

// asked is what came of asking.
type asked struct {
	n      int // samples
	failed int // failure verdicts among them
	stale  int // verdicts of rules from before a push that had returned
	err    error
}

// askerPriority is that of the thread that asks: a task that waits in the kernel is not
// put off its CPU by one that compiles rules.
const askerPriority = -20

// ask asks until stop is closed and fills samples as far as they go. It goes on asking
// after that, for the sake of stale verdicts.
func (s *session) ask(samples []uint32, stop <-chan struct{}) (a asked) {
	runtime.LockOSThread() // never unlocked: the thread ends with its goroutine
	var set unix.CPUSet
	set.Set(s.cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return asked{err: fmt.Errorf("pinning to CPU %d: %w", s.cpu, err)}
	}
	_ = unix.Setpriority(unix.PRIO_PROCESS, 0, askerPriority) // without the privilege it does without
	between := unix.NsecToTimespec(int64(pace))
	for i := 0; ; i++ {
		select {
		case <-stop:
			return a
		default:
		}
		one := s.askOnce(i, samples[min(a.n, len(samples)):])
		a.n, a.failed, a.stale = a.n+one.n, a.failed+one.failed, a.stale+one.stale
		unix.Nanosleep(&between, nil) // cut short by a signal: the next ask is early
	}
}

// names is how many files are asked about: all are in the cache until a push.
const names = 64

func newPaths() (list [names]string) {
	for i := range list {
		list[i] = fmt.Sprintf("%s%02d", probes, i)
	}
	return list
}

// askOnce asks about file i and puts what it took into room, if there is any.
func (s *session) askOnce(i int, room []uint32) (a asked) {
	facts := ring.Facts{Event: uint32(abi.EventOpen), Access: uint32(abi.AccessRead), UID: 1000, EUID: 1000}
	before := s.pushed.Load()
	begin := time.Now()
	answer := s.kernel.Ask(facts, s.paths[i%names], "/usr/bin/cat")
	took := time.Since(begin)
	failed := answer.Reason != abi.ReasonNone
	if len(room) > 0 {
		room[0], a.n = uint32(min(took, math.MaxUint32)), 1
		if failed {
			a.failed = 1
		}
	}
	if !failed && !fresh(answer.Errno, before) {
		a.stale = 1
	}
	return a
}

// fresh reports whether a verdict may be given to who asked after that many pushes had
// returned: by the last of them, or by the one that is under way.
func fresh(errno uint16, pushed uint64) bool {
	return errno == errnos[(pushed-1)%versions].number || errno == errnos[pushed%versions].number
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// storm is something that a control plane could do to the Go runtime, without pause.
type storm struct {
	id, what string
	// work is done again and again by each of so many goroutines.
	goroutines int
	work       func()
}

var (
	calm       = storm{id: "calm", what: "nothing else"}
	collection = storm{id: "gc", what: "forced collections", goroutines: 1, work: runtime.GC}
	crowd      = storm{id: "goroutines", what: "10,000 goroutines at a time", goroutines: 1, work: comeAndGo}
	garbage    = storm{id: "garbage", what: "two goroutines allocate", goroutines: 2, work: func() { newTree(leftLevels) }}
)

// Levels of trees: what each collection has to look through, some 25 MB in a quarter of a million
// objects as a large rule file is while it is parsed; and what is made and left.
const (
	liveLevels = 18
	leftLevels = 12
)

type tree struct {
	left, right *tree
	_           [10]uint64 // as large as what is parsed
}

func newTree(levels int) *tree {
	if levels == 0 {
		return nil
	}
	return &tree{left: newTree(levels - 1), right: newTree(levels - 1)}
}

const crowdSize = 10_000

// comeAndGo starts goroutines that do a little and end, and waits for all of them.
func comeAndGo() {
	var wg sync.WaitGroup
	var sum atomic.Uint64
	for range crowdSize {
		wg.Go(func() {
			for i := range uint64(1000) {
				sum.Add(i)
			}
			runtime.Gosched()
		})
	}
	wg.Wait()
}

// begin starts the storm; what it returns ends it and waits until it has. Its collections look
// through live as well.
func (s *storm) begin(live *tree) (end func()) {
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range s.goroutines {
		wg.Go(func() {
			for !stop.Load() {
				s.work()
			}
		})
	}
	return func() {
		stop.Store(true)
		wg.Wait()
		runtime.KeepAlive(live)
	}
}

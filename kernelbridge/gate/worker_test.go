// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// work answers everything, as workers do, until the end of the test: one thread per
// CPU given, below 0 for any. A polling one never parks.
func work(t testing.TB, g *Gate, q *queue, polling bool, cpus ...int) {
	t.Helper()
	var stop atomic.Bool
	var threads sync.WaitGroup
	for i, cpu := range cpus {
		p, err := g.Parker(i, -1, nil)
		if err != nil {
			t.Fatal(err)
		}
		threads.Go(func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its CPU
			if cpu >= 0 {
				if err := pin(cpu); err != nil {
					t.Error(err)
				}
			}
			for turn := 0; !stop.Load(); turn++ {
				detached := turn%2 == 0 // each way is gone
				busy := false
				for at := range q.posted {
					for set := q.posted[at].Load(); set != 0; set &= set - 1 {
						bit := bits.TrailingZeros64(set)
						q.posted[at].And(^(1 << bit))
						busy = true
						if slot := at*64 + bit; q.answer(slot) {
							g.Release(slot)
						}
					}
				}
				switch {
				case busy:
				case q.Sleeps() != g.Served() && polling:
					if !detached || !p.ServeDetached() {
						p.Serve()
					}
				case polling:
				case !detached:
					p.Wait(time.Second)
				case !p.WaitDetached(time.Second):
					p.Serve()
				}
			}
		})
	}
	t.Cleanup(func() {
		stop.Store(true)
		g.wakeParkers()
		threads.Wait()
	})
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/arbiterd/arbiter/kernelbridge/gate"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// maxGates is how many gates one backend opens in its life: something that keeps
// ending them is not outrun by opening more.
const maxGates = 8

// gates keeps a gate open: when its helper is killed or its connection aborted, it
// opens another one. Until then, and when it gives up, tasks poll.
type gates struct {
	queue  *queue
	logger *slog.Logger
	now    atomic.Pointer[gate.Gate] // nil: there is none
	gone   atomic.Bool               // none stays

	mu     sync.Mutex // serialises open and close
	all    []*gate.Gate
	helper func(pid int) // is told of each helper; may be nil
	closed bool
	watch  sync.WaitGroup
}

// newGates opens the first gate. The error says why tasks cannot sleep here.
func newGates(q *queue, logger *slog.Logger) (*gates, error) {
	g := &gates{queue: q, logger: logger}
	if err := g.open(); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *gates) open() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if len(g.all) == maxGates {
		return fmt.Errorf("opening a gate: %d have gone already", maxGates)
	}
	workers := len(g.queue.Sources())
	next, err := gate.Open(gate.Options{Workers: workers, Slots: &sleepers{g.queue.Ring}, Logger: g.logger})
	if err != nil {
		return err
	}
	if g.helper != nil {
		g.helper(next.Identity().PID)
	}
	parkers := make([]ring.GateParker, workers)
	for i := range parkers {
		p, err := next.Parker(i, g.queue.maps.kick.FD(), g.queue.kick)
		if err != nil {
			return errors.Join(err, next.Close())
		}
		parkers[i] = p
	}
	g.all = append(g.all, next)
	g.queue.SetGate(next, parkers)
	g.now.Store(next)
	h, id := g.queue.Header(), next.Identity()
	atomic.StoreUint64(&h.GateStart, id.StartTicks)
	atomic.StoreUint64(&h.GateIno, id.Ino)
	atomic.StoreUint32(&h.GateDev, uint32(id.Dev))
	atomic.StoreUint32(&h.GatePID, uint32(id.PID)) // from here on tasks sleep
	g.watch.Go(func() { g.await(next) })
	return nil
}

// onHelper has tell told of the helper, and of those in its place from now on.
func (g *gates) onHelper(tell func(pid int)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.helper = tell
	if now := g.now.Load(); now != nil {
		tell(now.Identity().PID)
	}
}

// await opens another gate when this one has gone.
func (g *gates) await(gone *gate.Gate) {
	<-gone.Done()
	atomic.StoreUint32(&g.queue.Header().GatePID, 0)
	gone.Abort()
	g.mu.Lock()
	closed := g.closed
	g.mu.Unlock()
	if closed {
		return
	}
	g.logger.Error("the gate has gone, opening another one: who slept there gets the failure verdict")
	if err := g.open(); err != nil && !errors.Is(err, ErrClosed) {
		g.gone.Store(true)
		g.logger.Error("no gate stays: tasks that wait keep their CPU; restart the daemon", slog.Any("error", err))
	}
}

// tick is the gate's clock: the heart calls it.
func (g *gates) tick() {
	if now := g.now.Load(); now != nil {
		now.Tick()
	}
}

// abort ends every sleep.
func (g *gates) abort() {
	g.mu.Lock()
	g.closed = true
	all := g.all
	g.mu.Unlock()
	atomic.StoreUint32(&g.queue.Header().GatePID, 0)
	for _, one := range all {
		one.Abort()
	}
	g.watch.Wait()
}

// close releases everything. The heart and the workers must be stopped.
func (g *gates) close() error {
	var errs []error
	for _, one := range g.all {
		errs = append(errs, one.Close())
	}
	g.all = nil
	return errors.Join(errs...)
}

// sleepers is the queue as the gate sees it.
type sleepers struct{ *ring.Ring }

// State implements gate.Slots.
//
//go:nosplit
func (s *sleepers) State(slot int, tid uint32) gate.State {
	switch waiting, answered := s.Asleep(slot, tid); {
	case waiting:
		return gate.Waiting
	case answered:
		return gate.Answered
	}
	return gate.Foreign
}

// Sleeps implements gate.Slots.
func (s *sleepers) Sleeps() uint64 { return atomic.LoadUint64(&s.Header().Sleeps) }

// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const (
	roleEnv = "GATE_TEST_ROLE"
	// patience ends a test that would hang.
	patience = 20 * time.Second
)

// TestMain plays the children's roles.
func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "sleeper":
		sleeperMain()
		os.Exit(0)
	case "daemon":
		daemonMain()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// queue is a queue of tids and answers, as the kernel side and the ring have it.
type queue struct {
	sleeps atomic.Uint64
	posted atomic.Uint64 // bit s%64: look at the slots of that residue
	slots  [abi.Slots]struct {
		tid  atomic.Uint32
		done atomic.Bool
	}
}

func (q *queue) Sleeps() uint64 { return q.sleeps.Load() }

func (q *queue) State(slot int, tid uint32) State {
	s := &q.slots[slot]
	done := s.done.Load()
	switch {
	case tid == 0 || s.tid.Load() != tid:
		return Foreign
	case done:
		return Answered
	}
	return Waiting
}

// post makes slot the question of task tid.
func (q *queue) post(slot int, tid int) {
	s := &q.slots[slot]
	s.done.Store(false)
	s.tid.Store(uint32(tid))
	q.posted.Or(1 << (slot % 64))
}

// answer makes the slot's word DONE and says whether it was not yet.
func (q *queue) answer(slot int) bool {
	s := &q.slots[slot]
	return s.tid.Load() != 0 && s.done.CompareAndSwap(false, true)
}

// free ends the question, as its requester does.
func (q *queue) free(slot int) { q.slots[slot].tid.Store(0) }

// open opens a gate for a test, which skips where there can be none.
func open(t testing.TB, workers int) (*Gate, *queue) {
	t.Helper()
	q := new(queue)
	return openFor(t, Options{Workers: workers, Slots: q}), q
}

func openFor(t testing.TB, o Options) *Gate {
	t.Helper()
	g, err := Open(o)
	var unsupported *UnsupportedError
	if errors.As(err, &unsupported) {
		t.Skipf("needs root and %s: %v", devicePath, err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// file opens the gate's file the one way that there is.
func file(t testing.TB, pid int) int {
	t.Helper()
	fd, err := openFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func openFile(pid int) (int, error) {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/exe", pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the helper's executable: %w", err)
	}
	return fd, nil
}

// sleepOn asks for slot's answer as a BPF program would.
func sleepOn(fd, slot int) (int, error) {
	return unix.Fgetxattr(fd, Attribute, make([]byte, slot+1))
}

// ask posts slot as the question of the calling thread, sleeps until it is answered,
// and frees the slot. It returns how often it slept. "Not yet" is the answer when the
// runtime sends its signals, too.
func (q *queue) ask(fd, slot int) (sleeps int, err error) {
	q.post(slot, unix.Gettid())
	defer q.free(slot)
	for {
		sleeps++
		q.sleeps.Add(1)
		_, err := sleepOn(fd, slot)
		if q.slots[slot].done.Load() {
			return sleeps, nil
		}
		if !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EINTR) {
			return sleeps, fmt.Errorf("sleeping on slot %d without an answer: %w", slot, err)
		}
	}
}

// within requires that f returns in time.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: not after %v", what, patience)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	timeout := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s: not after %v", what, patience)
		}
	}
}

// beat calls Tick every 20 ms until the end of the test.
func beat(t testing.TB, g *Gate) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				g.Tick()
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}

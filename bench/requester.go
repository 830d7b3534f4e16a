// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// call is the system call that is timed, the same way for every mechanism.
type call struct {
	name           string
	trap           uintptr
	a1, a2, a3, a4 uintptr
	again          unix.Errno // means "not yet, ask again"
	returnsFD      bool       // close it, outside the timed part
	swaps          bool       // a2 and a4 change places for the next call
	path           *byte      // keeps the memory behind a pointer argument alive
	buf            []byte     // the same
	other          *byte      // the same, a second one
}

// requester asks from one pinned thread; only the goroutine that runs on that
// thread may use it.
type requester struct {
	call call
	asks int64     // in this round
	base time.Time // durations are read against it: one clock read each, no wall clock
}

func newRequester(c call) *requester { return &requester{call: c, base: time.Now()} }

// once asks and returns how long it took.
func (q *requester) once() (time.Duration, error) {
	start := time.Since(q.base)
	end, err := q.until()
	return end - start, err
}

// until asks and returns when that was over, since base.
func (q *requester) until() (time.Duration, error) {
	c := &q.call
	q.asks++
	r, _, errno := unix.RawSyscall6(c.trap, c.a1, c.a2, c.a3, c.a4, 0, 0)
	for errno != 0 && errno == c.again {
		r, _, errno = unix.RawSyscall6(c.trap, c.a1, c.a2, c.a3, c.a4, 0, 0)
	}
	end := time.Since(q.base)
	if errno != 0 {
		return 0, fmt.Errorf("timing %s: %w", c.name, errno)
	}
	if c.returnsFD {
		unix.RawSyscall(unix.SYS_CLOSE, r, 0, 0)
	}
	if c.swaps {
		c.a2, c.a4 = c.a4, c.a2
	}
	return end, nil
}

// run does one round and returns how many samples it took. It ends with one ask
// that does not count, and says in last, before that, how many asks the round has:
// so the responder knows the last one when it has answered it, and not earlier.
func (q *requester) run(r round, last *atomic.Int64) (n int, err error) {
	q.asks = 0
	if r.due != nil {
		n, err = q.askAt(r)
	} else {
		n, err = q.ask(r.RoundOptions, r.samples)
	}
	if err != nil {
		return n, err
	}
	last.Store(q.asks + 1)
	_, err = q.once()
	return n, err
}

func (q *requester) ask(o RoundOptions, samples []uint32) (int, error) {
	begin := time.Now()
	for range o.Warmup {
		if time.Since(begin) > o.Budget {
			return 0, nil
		}
		if _, err := q.once(); err != nil {
			return 0, err
		}
	}
	for i := range samples {
		if time.Since(begin) > o.Budget {
			return i, nil
		}
		took, err := q.once()
		if err != nil {
			return i, err
		}
		samples[i] = uint32(min(took, math.MaxUint32))
	}
	return len(samples), nil
}

// askAt asks when it is due, or at once when that was before, and takes how long after
// its time each was over.
func (q *requester) askAt(r round) (int, error) {
	begin := time.Since(q.base) + settleIn
	last := begin + r.Budget
	for i, d := range r.due {
		at := begin + d
		now := time.Since(q.base)
		for now < at {
			now = time.Since(q.base)
		}
		if now > last {
			return i, nil
		}
		end, err := q.until()
		if err != nil {
			return i, err
		}
		r.samples[i] = uint32(min(end-at, math.MaxUint32))
	}
	return len(r.due), nil
}

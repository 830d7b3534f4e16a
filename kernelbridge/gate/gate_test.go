// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestSleep is the life of a sleep, many times: a task sleeps, a worker wakes up and
// answers, the task wakes up.
func TestSleep(t *testing.T) {
	for _, tc := range []struct {
		name          string
		polling       bool
		threads, each int
	}{
		{"parked, one at a time", false, 1, 500},
		{"parked, 8 at once", false, 8, 1250},
		{"polling", true, 4, 500},
		{"all slots at once", false, abi.Slots, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			q, f := newQueue(t)
			g := openFor(t, Options{Workers: 2, Slots: q})
			beat(t, g)
			work(t, g, q, tc.polling, -1, -1)
			s := newSleeper(t, g.Identity().PID, f)
			s.start(order{Count: tc.threads, Rounds: tc.each})
			o := s.wait()
			t.Logf("%d sleeps in %v, of one p50 %v, p99 %v", o.Sleeps, o.Took, o.P50, o.P99)
			if o.Errno != 0 || o.Sleeps < tc.threads*tc.each {
				t.Errorf("%d sleeps, %v, want %d or more and no error", o.Sleeps, o.Errno, tc.threads*tc.each)
			}
			// On a very slow machine a tick may have made up for one that came after all.
			eventually(t, "as many served as there were sleeps", func() bool { return g.Served() == uint64(o.Sleeps) })
			// A sleep that runs into MaxSleep is a lost wake-up.
			if s := g.Stats(); s != (Stats{}) {
				t.Errorf("counters %+v, want none", s)
			}
		})
	}
}

func TestIdentity(t *testing.T) {
	g, _ := open(t, 1)
	beat(t, g)
	id := g.Identity()
	var st unix.Stat_t
	if err := unix.Fstat(file(t, id.PID), &st); err != nil {
		t.Fatal(err)
	}
	if id.Dev != deviceOf(&st) || id.Ino != st.Ino || id.Ino != 1 || id.Dev == 0 {
		t.Errorf("identity %+v, the file is on %d as %d", id, deviceOf(&st), st.Ino)
	}
	if got, err := StartTicks(id.PID); err != nil || got != id.StartTicks || got == 0 {
		t.Errorf("started at %d, want %d; %v", id.StartTicks, got, err)
	}
	if st.Mode != rootMode {
		t.Errorf("mode %o, want %o", st.Mode, rootMode)
	}
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(id.PID) + "/comm")
	if got := strings.TrimSpace(string(comm)); err != nil || got != helperName {
		t.Errorf("the helper is called %q, want %q; %v", got, helperName, err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Workers: abi.MaxWorkers + 1, Slots: anyone{}}, {Workers: 1}} {
		if g, err := Open(o); err == nil {
			g.Close()
			t.Errorf("opened with %+v, want an error", o)
		} else if u := (*UnsupportedError)(nil); errors.As(err, &u) {
			t.Errorf("options %+v: %v, want an error about them", o, err)
		}
	}
}

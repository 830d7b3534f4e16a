// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSleep is the life of a sleep: a task sleeps, a parked worker wakes up and
// answers, the task wakes up.
func TestSleep(t *testing.T) {
	g, q := open(t, 1)
	beat(t, g)
	p, err := g.Parker(0, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	fd := file(t, g.Identity().PID)
	const slot, rounds = 7, 100
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		for range rounds {
			if _, err := q.ask(fd, slot); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for n := 0; n < rounds; {
		p.Wait(patience / 4)
		if q.answer(slot) {
			n++
			g.Release(slot)
		}
	}
	within(t, "the sleeper", func() {
		if err := <-done; err != nil {
			t.Errorf("sleeping: %v", err)
		}
	})
	if got := g.Served(); got < rounds {
		t.Errorf("served %d, want %d or more", got, rounds)
	}
	if s := g.Stats(); s != (Stats{Interrupted: s.Interrupted}) {
		t.Errorf("counters %+v, want none but of the runtime's signals", s)
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
	if got, err := startTicks(id.PID); err != nil || got != id.StartTicks || got == 0 {
		t.Errorf("started at %d, want %d; %v", id.StartTicks, got, err)
	}
	if st.Mode != rootMode {
		t.Errorf("mode %o, want %o", st.Mode, rootMode)
	}
	comm, err := os.ReadFile("/proc/" + itoa(id.PID) + "/comm")
	if got := strings.TrimSpace(string(comm)); err != nil || got != helperName {
		t.Errorf("the helper is called %q, want %q; %v", got, helperName, err)
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Workers: 65, Slots: new(queue)}, {Workers: 1}} {
		if g, err := Open(o); err == nil {
			g.Close()
			t.Errorf("opened with %+v, want an error", o)
		} else if u := (*UnsupportedError)(nil); errors.As(err, &u) {
			t.Errorf("options %+v: %v, want an error about them", o, err)
		}
	}
}

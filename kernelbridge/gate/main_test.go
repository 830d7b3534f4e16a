// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
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

// open opens a gate for a test, which skips where there can be none.
func open(t testing.TB, workers int) (*Gate, *queue) {
	t.Helper()
	q, _ := newQueue(t)
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

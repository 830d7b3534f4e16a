// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"math"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// startCaller starts this test as a caller that opens a file.
func startCaller(t *testing.T) *ordered {
	t.Helper()
	t.Setenv(childEnv, "1")
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := writeFiles(dir, map[string]string{callerFile: "x"}); err != nil {
		t.Fatal(err)
	}
	p, err := startOrdered(CallerWord, callOpen, dir, strconv.Itoa(cpus[0]))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestOrdered(t *testing.T) {
	p := startCaller(t)
	for _, n := range []int{1, 100} {
		samples := make([]uint32, n)
		got, err := p.round(RoundOptions{Warmup: 2, Budget: time.Minute}, samples)
		if err != nil || got != n || samples[n-1] == 0 {
			t.Errorf("got %d, %v, the last of them %d, want %d samples", got, err, samples[n-1], n)
		}
	}
	if err := p.close(); err != nil {
		t.Errorf("got %v, want that it ends by itself", err)
	}
}

// Who is in the middle of a round does not keep the scenario from ending, and is not waited for.
func TestOrderedInRound(t *testing.T) {
	p := startCaller(t)
	done := make(chan error)
	go func() {
		_, err := p.round(RoundOptions{Warmup: math.MaxUint32, Budget: time.Hour}, make([]uint32, 1))
		done <- err
	}()
	for !p.inRound.Load() {
		runtime.Gosched()
	}
	if err := p.close(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want it killed", err)
	}
	if err := <-done; err == nil {
		t.Error("got no error of a round that was not finished, want one")
	}
}

// Who has no order is waited for: on a busy machine an exit takes more than a moment.
func TestOrderedSlowEnd(t *testing.T) {
	cmd := exec.Command("sh", "-c", "cat; sleep 1.2")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := (&ordered{cmd: cmd, in: in}).close(); err != nil {
		t.Errorf("got %v, want that it ends by itself", err)
	}
}

// Whoever starts something gives it more time for its end than it takes for what it started itself.
func TestStopLimits(t *testing.T) {
	if orderedLimit >= stopLimit || daemonStopLimit >= stopLimit {
		t.Errorf("a child has %v, its own child %v and its daemon %v: want it to have more than these", stopLimit, orderedLimit, daemonStopLimit)
	}
	if c := (&child{info: Info{StartLimit: slowStart}}); c.stopLimit() != slowStart || (&child{}).stopLimit() != stopLimit {
		t.Errorf("got %v for a slow child, want %v", c.stopLimit(), slowStart)
	}
}

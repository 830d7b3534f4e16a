// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"math"
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

// Who is in the middle of a round does not keep the scenario from ending.
func TestOrderedInRound(t *testing.T) {
	p := startCaller(t)
	if err := binary.Write(p.in, binary.NativeEndian, order{Warmup: math.MaxUint32, Samples: 1, Budget: int64(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := p.close(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("got %v, want it killed", err)
	}
}

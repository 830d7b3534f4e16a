// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTracerRefuses(t *testing.T) {
	f := func(name, want string, args ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if err := Tracer(args, strings.NewReader("."), new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q in it", err, want)
			}
		})
	}
	f("no arguments", "started by a scenario")
	f("no thread", `thread "x"`, "x", "0", "block")
	f("no CPU", `CPU "x"`, "1", "x", "block")
}

// A tracer that the kernel refuses says so to who started it: that is a row with a reason.
func TestTracerOfItself(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100)) // it switches the collector off
	cpus, err := AllowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ended := make(chan error)
	go func() { // its thread is pinned for good
		ended <- Tracer([]string{strconv.Itoa(os.Getpid()), strconv.Itoa(cpus[0]), "block"}, strings.NewReader("."), &out)
	}()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "tracing thread") {
		t.Errorf("got %v, want a refusal", err)
	}
	if got, want := strings.TrimSpace(out.String()), strconv.Itoa(int(unix.EPERM)); got != want {
		t.Errorf("it reported %q, want EPERM, %q", got, want)
	}
}

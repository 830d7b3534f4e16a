// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

func TestRungWarnings(t *testing.T) {
	status := func(hook string, rung kernelbridge.Rung, why string) kernelbridge.HookStatus {
		h, ok := catalogue.HookOf(hook)
		if !ok {
			t.Fatalf("no hook %s", hook)
		}
		return kernelbridge.HookStatus{Hook: h, Present: true, Known: true, Rung: rung, Why: why}
	}
	r := newRungs([]kernelbridge.HookStatus{
		status("file_open", kernelbridge.RungSleep, ""),
		status("path_unlink", kernelbridge.RungNeither, "no kfunc X"),
		status("path_mkdir", kernelbridge.RungNeither, "no kfunc X"),
		status("capable", kernelbridge.RungNeither, "its callers make EPERM of it"),
		// One event, two hooks: the worse counts.
		status("kernel_read_file", kernelbridge.RungSleep, ""),
		status("kernel_load_data", kernelbridge.RungNeither, "no kfunc X"),
	})
	got := r.warnings([]abi.Event{abi.EventOpen, abi.EventUnlink, abi.EventMkdir, abi.EventCapable, abi.EventModuleLoad, abi.EventSignal})
	if len(got) != 2 || !strings.HasPrefix(got[0], "mkdir, module_load, unlink: ") || !strings.Contains(got[0], "(no kfunc X)") ||
		!strings.HasPrefix(got[1], "capable: ") {
		t.Errorf("got %q, want one line for the three events without the kfunc and one for capable", got)
	}
	if got := r.warnings([]abi.Event{abi.EventOpen}); len(got) != 0 {
		t.Errorf("a hook that sleeps: %q, want no warning", got)
	}
}

func TestWaits(t *testing.T) {
	of := func(rung kernelbridge.Rung, why string) rungs {
		return rungs{abi.EventOpen: {Rung: rung, Why: why}}
	}
	for _, tc := range []struct {
		name string
		r    rungs
		gate bool
		want string
	}{
		{"an event without a hook", rungs{}, true, ""},
		{"sleep", of(kernelbridge.RungSleep, ""), true, "it sleeps in the hook"},
		{"sleep without a gate", of(kernelbridge.RungSleep, ""), false, "it polls, and keeps its CPU: the daemon has no gate, see its log"},
		{"unwind", of(kernelbridge.RungUnwind, ""), true, "its system call returns, waits without locks and starts again; kernel threads and io_uring cannot"},
		{"hot", of(kernelbridge.RungHot, "no kfunc X"), true, "it polls, and keeps its CPU (no kfunc X)"},
		{"neither", of(kernelbridge.RungNeither, "no kfunc X"), true, "10 ms at most, with its CPU and its locks, and then it goes on by the file's on_fail, whatever the deadline (no kfunc X)"},
	} {
		if got := tc.r.waits(abi.EventOpen, tc.gate); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
}

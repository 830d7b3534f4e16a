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

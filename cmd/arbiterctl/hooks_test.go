// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io/fs"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// madeUpHooks are the hooks of a kernel that the scripts can look at; there is one file
// with BTF besides the running kernel's.
func madeUpHooks(kernel, file string) ([]kernelbridge.HookStatus, error) {
	if file != "" && file != "tomorrow.btf" {
		return nil, fs.ErrNotExist
	}
	if file == "" && kernel != "lsm" {
		return nil, &kernelbridge.UnsupportedError{Feature: "the hooks of this kernel", Hint: "boot another one"}
	}
	known := func(name string, rung kernelbridge.Rung, why string) kernelbridge.HookStatus {
		return kernelbridge.HookStatus{Hook: mustHook(name), Present: true, Known: true, Rung: rung, Why: why}
	}
	hooks := []kernelbridge.HookStatus{
		known("file_open", kernelbridge.RungSleep, ""),
		known("inode_mkdir", kernelbridge.RungNone, "asked about before"),
		known("path_mkdir", kernelbridge.RungNeither, "no kfunc bpf_task_work_schedule_signal"),
		{Hook: mustHook("uring_allowed"), Known: true, Why: "not in this kernel"},
	}
	if file != "" {
		hooks = append(hooks, kernelbridge.HookStatus{Hook: catalogue.Hook{Name: "of_tomorrow"}, Present: true, Why: "unknown to this version"})
	}
	return hooks, nil
}

func mustHook(name string) catalogue.Hook {
	h, ok := catalogue.HookOf(name)
	if !ok {
		panic("BUG: no hook " + name)
	}
	return h
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"

	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// Rung is how a task can wait in a hook.
type Rung uint8

// The rungs of the wait ladder. Each but RungNone includes what the kernel side decides
// by itself.
const (
	RungNone    Rung = iota // nothing is asked
	RungNotify              // told of, cannot be refused
	RungNeither             // no wait but a few microseconds: what the kernel side knows, else the failure verdict
	RungHot                 // the task polls, and keeps its CPU
	RungSleep               // the task sleeps in the hook
	RungUnwind              // the system call returns, waits without locks and starts again
)

// String returns the rung as documents write it, "-" for RungNone.
func (r Rung) String() string {
	return [...]string{"-", "notify", "neither", "hot", "sleep", "unwind"}[r]
}

// HookStatus is what one LSM hook can do on one kernel.
type HookStatus struct {
	catalogue.Hook      // the zero Class stands for a hook that the catalogue does not know
	Present        bool // the kernel has it, for BPF programs
	Known          bool // the catalogue has it
	Rung           Rung // the highest that the kernel offers here
	// Why says what keeps the hook from a higher rung, or asking from being complete;
	// of a hook that asks for nothing, why.
	Why string

	// Attached and Reason are for the loader: whether a program of ours runs there,
	// and why not.
	Attached bool
	Reason   string
}

const (
	kfuncTask   = "bpf_task_from_pid"
	kfuncFile   = "bpf_get_task_exe_file"
	kfuncSleep  = "bpf_get_file_xattr"
	kfuncUnwind = "bpf_task_work_schedule_signal"
	fuseDevice  = "/dev/fuse"
	unknownHook = "unknown to this version"
	absentHook  = "not in this kernel"
)

// Hooks returns the LSM hooks of the kernel with this BTF, those of the catalogue that
// ask but are not in that kernel included, by name. What of it depends on the machine
// and not on the kernel is left out: see RunningHooks.
func Hooks(spec *btf.Spec) []HookStatus {
	c := capabilities(spec)
	var out []HookStatus
	for _, name := range hookNames(spec) {
		h, known := catalogue.HookOf(name)
		if !known {
			out = append(out, HookStatus{Hook: catalogue.Hook{Name: name}, Present: true, Why: unknownHook})
			continue
		}
		out = append(out, c.status(h))
	}
	for _, h := range catalogue.Hooks() {
		if len(h.Events) > 0 && !hasFunc(spec, "bpf_lsm_"+h.Name) {
			out = append(out, HookStatus{Hook: h, Known: true, Why: absentHook})
		}
	}
	slices.SortFunc(out, func(a, b HookStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// RunningHooks is Hooks for the running kernel. Where there is no FUSE device nothing
// can sleep.
func RunningHooks() ([]HookStatus, error) {
	spec, err := LoadBTF("")
	if err != nil {
		return nil, err
	}
	hooks := Hooks(spec)
	if _, err := os.Stat(fuseDevice); err != nil {
		withoutFUSE(hooks, err)
	}
	return hooks, nil
}

func withoutFUSE(hooks []HookStatus, err error) {
	for i := range hooks {
		if h := &hooks[i]; h.Rung == RungSleep {
			h.Rung, h.Why = RungHot, join(fmt.Sprintf("no FUSE device (%v): modprobe fuse", err), h.Note)
		}
	}
}

// LoadBTF reads the BTF of a kernel from a file, which may be raw or an ELF image such
// as vmlinux; without a name that of the running kernel. The error is an
// UnsupportedError where the running kernel has none.
func LoadBTF(file string) (*btf.Spec, error) {
	if file == "" {
		spec, err := btf.LoadKernelSpec()
		if err != nil {
			return nil, &UnsupportedError{"the hooks of this kernel", "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, or give the BTF of another one", err}
		}
		return spec, nil
	}
	spec, err := btf.LoadSpec(file)
	if err != nil {
		return nil, fmt.Errorf("reading the BTF in %s: %w", file, err)
	}
	if !hasFunc(spec, "bpf_lsm_file_open") {
		return nil, fmt.Errorf("reading the BTF in %s: %w", file, errNoHooks)
	}
	return spec, nil
}

var errNoHooks = errors.New("it has no LSM hooks for BPF: is it of a kernel with CONFIG_BPF_LSM=y?")

// ladder is what a kernel lacks for the two upper rungs, empty where it has all.
type ladder struct{ sleep, unwind string }

// capabilities looks for the kfuncs that the rungs need, not at versions.
func capabilities(spec *btf.Spec) ladder {
	var c ladder
	missing := slices.DeleteFunc([]string{kfuncSleep, kfuncFile, kfuncTask}, func(k string) bool { return hasFunc(spec, k) })
	if len(missing) > 0 {
		c.sleep = "no kfunc " + strings.Join(missing, ", ")
	}
	// Newer kernels hide the argument that only the verifier fills in.
	if !hasFunc(spec, kfuncUnwind) && !hasFunc(spec, kfuncUnwind+"_impl") {
		c.unwind = "no kfunc " + kfuncUnwind
	}
	return c
}

// status places a hook that the kernel has on the ladder.
func (c ladder) status(h catalogue.Hook) HookStatus {
	s := HookStatus{Hook: h, Present: true, Known: true, Why: h.Note}
	switch {
	case len(h.Events) == 0:
	case h.Class == catalogue.Void:
		s.Rung = RungNotify
	case h.Class == catalogue.Free && c.sleep == "":
		s.Rung = RungSleep
	case h.Class == catalogue.Free:
		s.Rung, s.Why = RungHot, join(c.sleep, h.Note)
	case h.Restart == catalogue.RestartNever:
		s.Rung = RungNeither
	case c.unwind != "":
		// Which callers restart is no matter here.
		s.Rung, s.Why = RungNeither, c.unwind
		if h.Restart == catalogue.RestartAll {
			s.Why = join(c.unwind, h.Note)
		}
	default:
		s.Rung = RungUnwind
	}
	return s
}

// hookNames returns the hooks for which the kernel has a function to attach to. Its
// union of hook pointers tells them from functions that are named like hooks.
func hookNames(spec *btf.Spec) []string {
	var union *btf.Union
	var out []string
	if err := spec.TypeByName("security_list_options", &union); err != nil {
		for _, h := range catalogue.Hooks() {
			if hasFunc(spec, "bpf_lsm_"+h.Name) {
				out = append(out, h.Name)
			}
		}
		return out
	}
	for _, m := range union.Members {
		if hasFunc(spec, "bpf_lsm_"+m.Name) {
			out = append(out, m.Name)
		}
	}
	return out
}

// hasFunc reports whether the BTF has a function with that name.
func hasFunc(spec *btf.Spec, name string) bool {
	types, err := spec.AnyTypesByName(name)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(types, func(t btf.Type) bool {
		_, ok := t.(*btf.Func)
		return ok
	})
}

// join puts reasons behind each other.
func join(reasons ...string) string {
	return strings.Join(slices.DeleteFunc(reasons, func(s string) bool { return s == "" }), "; ")
}

// Unknown returns the hooks that the catalogue does not have.
func Unknown(hooks []HookStatus) []string {
	var out []string
	for _, h := range hooks {
		if !h.Known {
			out = append(out, h.Name)
		}
	}
	return out
}

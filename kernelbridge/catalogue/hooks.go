// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Restart says whether the callers of a hook hand -ERESTARTNOINTR back to the system
// call, so that the task can wait without the caller's locks and come again.
type Restart uint8

// What callers do with a restart.
const (
	RestartNever Restart = iota
	RestartSome          // some callers do; Hook.Note says which
	RestartAll
)

// Hook is one LSM hook of some kernel that the project claims.
type Hook struct {
	Name  string // as the kernel has it, without security_ or bpf_lsm_
	Class Class
	// Events are what it asks for, in the order of their numbers; nil for nothing.
	Events []abi.Event
	// Restart is of a hook that asks and whose task must not sleep in it.
	Restart Restart
	// Note says why the hook asks for nothing; of one that asks, what it cannot keep.
	Note string
}

// Asks reports whether the hook asks for the event.
func (h *Hook) Asks(e abi.Event) bool { return slices.Contains(h.Events, e) }

// String returns the class as documents write it.
func (c Class) String() string {
	switch c {
	case Free:
		return "free"
	case Locked:
		return "locked"
	case Atomic:
		return "atomic"
	case Void:
		return "void"
	}
	return "unknown"
}

// Reasons of hooks that ask for nothing, where more than one has it.
const (
	lifetime = "an object is made or freed, nothing is decided"
	labels   = "labels of other LSMs, nothing is decided"
	refused  = "the kernel lets no BPF program in here"
	after    = "comes after the deed, and the hook that decides came before"
	packet   = "called for packets, where no task can be held"
	reads    = "reads what describes a file and changes nothing"
	options  = "mount options of other LSMs"
	ipc      = "no event in this version: System V IPC"
	keys     = "no event in this version: keys"
	binder   = "no event in this version: Android's binder"
	tunnel   = "no event in this version: tunnels; they need CAP_NET_ADMIN, whose use is capable"
	infini   = "no event in this version: InfiniBand"
	limits   = "no event in this version: priorities and limits"
	perf     = "no event in this version: performance counters"
)

// on is the list of events of one hook.
func on(events ...abi.Event) []abi.Event { return events }

// HookOf returns what the catalogue says of the hook with that name, false for a
// hook that it does not know.
func HookOf(name string) (Hook, bool) {
	for _, table := range hookTables {
		for _, h := range table {
			if h.Name == name {
				return h, true
			}
		}
	}
	return Hook{}, false
}

// Hooks returns every hook of the catalogue, by name.
func Hooks() []Hook {
	all := slices.Concat(hookTables[:]...)
	slices.SortFunc(all, func(a, b Hook) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all
}

// HooksOf returns the hooks that ask for an event, by name.
func HooksOf(e abi.Event) []Hook {
	return slices.DeleteFunc(Hooks(), func(h Hook) bool { return !h.Asks(e) })
}

// hookTables has every hook once: the union over the kernels 6.1, 6.12, 6.18 and 7.3.
var hookTables = [...][]Hook{fileHooks, mountHooks, netHooks, taskHooks, ipcHooks, systemHooks}

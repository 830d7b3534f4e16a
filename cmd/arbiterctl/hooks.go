// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// hookFlags is what the command line of hooks says.
type hookFlags struct {
	events       []string // empty for all
	all          bool
	reference    bool
	file         string // BTF, empty for the running kernel
	kernel, note string // of the page
	out          *output
}

// hookEntry is a hook in -o json.
type hookEntry struct {
	Hook    string   `json:"hook"`
	Events  []string `json:"events"`
	Class   string   `json:"class"`
	Present bool     `json:"present"` // in that kernel
	Known   bool     `json:"known"`   // to this version
	Rung    string   `json:"rung"`
	Why     string   `json:"why,omitempty"`
}

func (a *app) hooksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "hooks",
		Short: "List the LSM hooks of a kernel, what they ask for, and how a task can wait there",
		Long: `hooks reads the BTF of the running kernel and lists the LSM hooks that ask for
events, with the rung of the wait ladder that the kernel offers there:

  sleep    the task sleeps in the hook
  unwind   the system call returns, waits without locks and starts again
  hot      the task polls, and keeps its CPU
  neither  what the kernel side knows by itself, else the failure verdict
  notify   told of, cannot be refused
  -        nothing is asked, the last column says why

It says what the kernel offers, not what the daemon has attached. With --all it lists
the hooks that ask for nothing too, each with the reason. A hook that is newer than
this version is always listed, as unknown.

With --events it lists the events and what they carry instead, of no kernel.

-o markdown writes the pages of docs/kernels and docs/events.md. It needs no daemon
and no privilege.`,
		Example: `  arbiterctl hooks
  arbiterctl hooks --event connect,listen
  arbiterctl hooks --all -o json
  arbiterctl hooks --btf vmlinux-6.1.btf --kernel 6.1 -o markdown
  arbiterctl hooks --events`,
		Args: noArgs,
	}
	var o hookFlags
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "the hooks that ask for nothing too")
	f.StringSliceVar(&o.events, "event", nil, "the hooks that ask for one of these events")
	f.BoolVar(&o.reference, "events", false, "the events and what they carry, not the hooks")
	f.StringVar(&o.file, "btf", "", "`FILE` with the BTF of another kernel, raw or an ELF image")
	f.StringVar(&o.kernel, "kernel", "", "for -o markdown: the kernel's `NAME` in the heading; by default the release of the running one")
	f.StringVar(&o.note, "note", "", "for -o markdown: a sentence on where the page is from")
	o.out = outputFlag(cmd, "markdown")
	cmd.MarkFlagsMutuallyExclusive("events", "btf")
	cmd.MarkFlagsMutuallyExclusive("events", "event")
	cmd.MarkFlagsMutuallyExclusive("events", "all")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return usage(cmd, err)
		}
		if o.reference {
			return a.printEvents(o.out)
		}
		return a.printHooks(&o)
	}
	return cmd
}

// check looks for flags that do not go together, and for events that do not exist.
func (o *hookFlags) check() error {
	for _, name := range o.events {
		if _, ok := abi.ParseEvent(name); !ok {
			return fmt.Errorf("--event %s: there is no such event; arbiterctl hooks --events lists them", quoteArg(name))
		}
	}
	switch {
	case o.out.markdown() && (o.all || len(o.events) > 0):
		return errors.New("-o markdown writes a whole page: leave --all and --event out")
	case o.out.markdown() && o.file != "" && o.kernel == "":
		return errors.New("-o markdown with --btf needs --kernel NAME for the heading")
	case (!o.out.markdown() || o.reference) && o.kernel+o.note != "":
		return errors.New("--kernel and --note are for -o markdown of the hooks")
	}
	return nil
}

// wants reports whether the hook is to be listed.
func (o *hookFlags) wants(h *kernelbridge.HookStatus) bool {
	if len(o.events) == 0 {
		return o.all || len(h.Events) > 0 || !h.Known
	}
	return slices.ContainsFunc(h.Events, func(e abi.Event) bool { return slices.Contains(o.events, e.String()) })
}

// kernelHooks returns the hooks of the running kernel or of a file.
func kernelHooks(file string) ([]kernelbridge.HookStatus, error) {
	if file == "" {
		return kernelbridge.RunningHooks()
	}
	spec, err := kernelbridge.LoadBTF(file)
	if err != nil {
		return nil, err
	}
	return kernelbridge.Hooks(spec), nil
}

func (a *app) printHooks(o *hookFlags) error {
	hooks, err := a.hooks(o.file)
	if err != nil {
		return fail(exitFailure, "give a file with BTF, such as a copy of /sys/kernel/btf/vmlinux, with --btf", fmt.Errorf("listing the hooks: %w", err))
	}
	if o.out.markdown() {
		kernel := o.kernel
		if kernel == "" {
			kernel = release()
		}
		return a.print(kernelbridge.HooksPage(kernel, o.note, hooks))
	}
	entries, left := []hookEntry{}, 0
	for i := range hooks {
		h := &hooks[i]
		if !o.wants(h) {
			left++
			continue
		}
		e := hookEntry{Hook: h.Name, Events: []string{}, Class: h.Class.String(), Present: h.Present, Known: h.Known, Rung: h.Rung.String(), Why: h.Why}
		for _, ev := range h.Events {
			e.Events = append(e.Events, ev.String())
		}
		entries = append(entries, e)
	}
	if o.out.json() {
		return a.printJSON(map[string]any{"hooks": entries})
	}
	t := newTable("HOOK", "EVENTS", "CLASS", "RUNG", "WHY")
	for _, e := range entries {
		t.row(audit.Quote(e.Hook), orDash(strings.Join(e.Events, ",")), e.Class, e.Rung, audit.Quote(e.Why))
	}
	text := t.text()
	if len(o.events) == 0 && left > 0 {
		text += fmt.Sprintf("\nHooks that ask for nothing are left out: %d. --all lists them.\n", left)
	}
	return a.print(text)
}

// printEvents prints the reference of the events.
func (a *app) printEvents(out *output) error {
	if out.markdown() {
		return a.print(catalogue.EventsPage())
	}
	type arg struct {
		Name string `json:"name"`
		Doc  string `json:"doc"`
	}
	type entry struct {
		Event  string `json:"event"`
		Doc    string `json:"doc"`
		Class  string `json:"class"`
		Object string `json:"object,omitempty"`
		Detail string `json:"detail,omitempty"`
		Args   []arg  `json:"args,omitempty"`
	}
	var entries []entry
	t := newTable("EVENT", "OBJECT", "DETAIL", "ARGUMENTS", "WHEN")
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		ev := catalogue.Of(e)
		row := entry{Event: ev.Name(), Doc: ev.Doc, Class: ev.Class.String(), Object: ev.Object, Detail: ev.Detail}
		var names []string
		for _, x := range ev.Args {
			row.Args = append(row.Args, arg(x))
			names = append(names, x.Name)
		}
		entries = append(entries, row)
		t.row(row.Event, orDash(row.Object), orDash(row.Detail), orDash(strings.Join(names, ",")), row.Doc)
	}
	if out.json() {
		return a.printJSON(map[string]any{"events": entries})
	}
	return a.print(t.text())
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// release is the release of the running kernel.
func release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "of this machine"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/kernelbridge"
)

// diagnosis is what doctor found; the json tags are what -o json prints.
type diagnosis struct {
	Features []finding `json:"features"`
	// Backend is what arbiterd would choose, empty for none.
	Backend string `json:"backend"`
	Why     string `json:"why"`
	// Survivors are the pins of hooks whose daemon is dead.
	Survivors []string `json:"survivors,omitempty"`
}

// finding is one feature of the kernel.
type finding struct {
	Name     string `json:"name"`
	Outcome  string `json:"outcome"` // "yes", "no", "cannot tell"
	Detail   string `json:"detail"`
	Hint     string `json:"hint,omitempty"`
	Optional bool   `json:"optional,omitempty"` // its absence makes waits shorter, no more
}

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this kernel can do, what it cannot, and what would change it",
		Long: `doctor tries what arbiterd needs of the running kernel, says which backend arbiterd
would choose and why, and names the step that would change what does not work. It
needs no daemon, attaches nothing and holds nobody. Without root the kernel does
not answer everything; doctor then says "cannot tell".

It exits with 7 when no backend works for the user who runs it.`,
		Args: noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		found := a.probe()
		d := diagnosis{}
		for _, f := range found {
			d.Features = append(d.Features, finding{f.Name, f.Outcome.String(), f.Detail, f.Hint, f.Optional})
		}
		backend, why, err := kernelbridge.Choose(kernelbridge.BackendAuto, found)
		d.Backend, d.Why = backend, why
		if err != nil {
			d.Backend, d.Why = "", err.Error()
		}
		d.Survivors, _ = kernelbridge.Survivors(kernelbridge.DefaultPins) // who may not look has no answer
		var printing error
		if out.json() {
			printing = a.printJSON(d)
		} else {
			printing = a.print(d.text())
		}
		switch {
		case printing != nil:
			return printing
		case err != nil && os.Geteuid() != 0:
			return fail(exitNoBackend, "run arbiterctl doctor as root: the kernel answers root more", err)
		case err != nil:
			return fail(exitNoBackend, "take one of the steps that begin with \"->\" above, then run arbiterctl doctor again", err)
		}
		return nil
	}
	return cmd
}

func (d *diagnosis) text() string {
	text := d.section(false)
	if better := d.section(true); better != "" {
		text += "\nMakes the BPF LSM backend better:\n" + better
	}
	if d.Backend != "" {
		text += "\nbackend: " + audit.Quote(d.Backend) + ": " + audit.Quote(d.Why) + "\n"
	} else {
		text += "\nbackend: none\n"
	}
	for _, dir := range d.Survivors {
		text += "\nhooks of a dead daemon refuse all that is in their scope: " + audit.Quote(dir) +
			"\n      -> start arbiterd, which ends them; or as root: rm -r " + audit.Quote(dir) + "\n"
	}
	return text
}

// section lists the features that a backend needs, or those that make it better.
func (d *diagnosis) section(optional bool) string {
	t := newTable()
	rows := 0
	for _, f := range d.Features {
		if f.Optional == optional {
			t.row("  "+audit.Quote(f.Name), f.Outcome, audit.Quote(f.Detail))
			rows++
		}
	}
	if rows == 0 {
		return ""
	}
	// The hints are lines of their own, below what they are about.
	var b strings.Builder
	lines := strings.SplitAfter(t.text(), "\n")
	for _, f := range d.Features {
		if f.Optional != optional {
			continue
		}
		b.WriteString(lines[0])
		lines = lines[1:]
		if f.Hint != "" {
			b.WriteString("      -> " + audit.Quote(f.Hint) + "\n")
		}
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// The classes of the hooks that ask are what the kernel says when a program is loaded:
// in free ones it may sleep, in atomic ones not. Nothing is attached.
func TestHookClasses(t *testing.T) {
	if os.Getenv("ARBITER_VM") == "" {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	nothing := func(hook string, flags uint32) *ebpf.ProgramSpec {
		return &ebpf.ProgramSpec{
			Type: ebpf.LSM, AttachType: ebpf.AttachLSMMac, AttachTo: hook, Flags: flags, License: "Dual BSD/GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
		}
	}
	// One collection reads the kernel's BTF once; its error names the program.
	all := &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{}}
	var atomic []string
	for _, h := range Hooks(spec) {
		if !h.Present || len(h.Events) == 0 {
			continue
		}
		all.Programs[h.Name] = nothing(h.Name, 0)
		switch h.Class {
		case catalogue.Free:
			all.Programs[h.Name+", sleeping"] = nothing(h.Name, unix.BPF_F_SLEEPABLE)
		case catalogue.Atomic:
			atomic = append(atomic, h.Name)
		}
	}
	if len(all.Programs) < 60 || len(atomic) < 15 {
		t.Fatalf("%d programs to load, %d hooks where none may sleep: the catalogue has more", len(all.Programs), len(atomic))
	}
	coll, err := ebpf.NewCollection(all)
	if err != nil {
		t.Errorf("loading a program for each hook, and one that sleeps where the class is free: %v", err)
	} else {
		coll.Close()
	}
	for _, hook := range atomic {
		p, err := ebpf.NewProgram(nothing(hook, unix.BPF_F_SLEEPABLE))
		if err == nil {
			p.Close()
			t.Errorf("%s is of class atomic, but a program may sleep there", hook)
		}
	}
}

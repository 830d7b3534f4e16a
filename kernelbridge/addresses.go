// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bufio"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// kernelAddresses are the variables of the kernel whose addresses the programs know: by the first
// two the kernel's cache sees that nothing was renamed or mounted, by the others that a mount maps
// no ids. Without an address nothing is kept there, and owners are not known.
var kernelAddresses = map[string]bool{"rename_lock": true, "mount_lock": true, "nop_mnt_idmap": true, "init_user_ns": true}

// hiddenHint is what helps against hidden addresses.
const hiddenHint = "run with CAP_SYSLOG, with the sysctl kernel.kptr_restrict below 2, and on a kernel with CONFIG_KALLSYMS_ALL"

// OwnersUnknown says why the owners and groups of files are not known here; nil: they are, but on
// file systems and mounts where they cannot be.
func (b *LSM) OwnersUnknown() error {
	if !b.hooks.hidden {
		return nil
	}
	return &UnsupportedError{Feature: "the owner of a file", Hint: hiddenHint, Err: errors.New("the kernel hides its addresses, and so which mounts map ids")}
}

// addressesHidden reports whether /proc/kallsyms does not show this process where a variable is: the kernel
// hides addresses with kernel.kptr_restrict=2 from everybody, and mostly from who has no CAP_SYSLOG; and
// one without CONFIG_KALLSYMS_ALL knows those of functions alone.
func addressesHidden() bool {
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return true
	}
	defer f.Close()
	return noAddress(f)
}

// noAddress reports whether the address of init_user_ns, one of kernelAddresses that each kernel has, is
// missing or zero.
func noAddress(r io.Reader) bool {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if address, kind, _ := strings.Cut(lines.Text(), " "); strings.HasSuffix(kind, " init_user_ns") {
			return strings.Trim(address, "0") == ""
		}
	}
	return true
}

// forgetAddresses makes the addresses in the programs zero. The loader would refuse the programs
// where they are hidden, though each can do without (cilium/ebpf v0.22, populateKallsyms).
func forgetAddresses(programs map[string]*ebpf.ProgramSpec) {
	for _, p := range programs {
		for i, ins := range p.Instructions {
			if ins.OpCode.IsDWordLoad() && kernelAddresses[ins.Reference()] {
				p.Instructions[i] = asm.LoadImm(ins.Dst, 0, asm.DWord).WithSymbol(ins.Symbol()).WithSource(ins.Source())
			}
		}
	}
}

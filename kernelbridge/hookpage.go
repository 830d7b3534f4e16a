// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// HooksPage writes the hooks of a kernel as the document docs/kernels/KERNEL.md. The
// note is a sentence on where the page is from, it may be empty.
func HooksPage(kernel, note string, hooks []HookStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# LSM hooks of Linux %s\n\n", kernel)
	b.WriteString("<!-- Written by arbiterctl hooks -o markdown; see README.md in this folder. -->\n\n")
	if note != "" {
		b.WriteString(note + "\n\n")
	}
	b.WriteString(pageIntro)
	b.WriteString("## Hooks that ask\n\n| event | hook | class | rung | limits |\n|---|---|---|---|---|\n")
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		for _, h := range hooks {
			if h.Asks(e) {
				row(&b, e.String(), h.Name, h.Class.String(), h.Rung.String(), h.Why)
			}
		}
	}
	b.WriteString("\n## Hooks that ask for nothing\n\n| hook | class | why |\n|---|---|---|\n")
	for _, h := range hooks {
		if len(h.Events) == 0 && h.Known {
			row(&b, h.Name, h.Class.String(), h.Why)
		}
	}
	b.WriteString("\n## Unknown to this version\n\n")
	unknown := Unknown(hooks)
	if len(unknown) == 0 {
		b.WriteString("None.\n")
	}
	for _, name := range unknown {
		fmt.Fprintf(&b, "- %s\n", name)
	}
	return b.String()
}

const pageIntro = `The kernel's BTF names the hooks and the kfuncs that a longer wait needs; no version number is asked. Which of the hooks
a running daemon has attached is another question: [limitations](../limitations.md#what-is-asked-about). What the events carry
is in [events](../events.md).

**Class**: what the caller holds. free: no lock that others wait for. locked: a directory, an inode or a superblock.
atomic: the kernel lets no program sleep there. void: the hook returns nothing.

**Rung**: the best wait that the kernel offers there. sleep: the task sleeps in the hook; it needs /dev/fuse besides. unwind: the
system call returns, waits without locks and starts again; kernel threads and io_uring cannot. hot: the task polls and keeps its CPU.
neither: what the kernel side knows by itself, else the failure verdict. notify: told of, cannot be refused.

`

// row writes one line of a table.
func row(b *strings.Builder, cells ...string) {
	b.WriteString("|")
	for _, c := range cells {
		b.WriteString(strings.TrimRight(" "+c, " ") + " |")
	}
	b.WriteString("\n")
}

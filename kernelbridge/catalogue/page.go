// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// EventsPage writes docs/events.md: the reference of the events, and what the events
// of other systems are here.
func EventsPage() string {
	var b strings.Builder
	b.WriteString(pageHead)
	b.WriteString("| event | when | class | hooks |\n|---|---|---|---|\n")
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		var hooks []string
		for _, h := range HooksOf(e) {
			hooks = append(hooks, h.Name)
		}
		ev := Of(e)
		row(&b, fmt.Sprintf("[%s](#%s)", ev.Name(), ev.Name()), ev.Doc, ev.Class.String(), strings.Join(hooks, ", "))
	}
	b.WriteString("\n## What each event carries\n")
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		Of(e).section(&b)
	}
	b.WriteString("\n## Events of the ESF PoC\n\n" + esfHead)
	mapping(&b, ESF())
	b.WriteString("\n## Events of TSEM\n\n" + tsemHead)
	mapping(&b, TSEM())
	return b.String()
}

const pageHead = `# Events

<!-- Written by go test ./kernelbridge/catalogue -update; change kernelbridge/catalogue instead. -->

What can be asked about. Which events this version attaches hooks for is in [limitations](limitations.md#what-is-asked-about); how a task can wait
at each hook of a kernel is in [kernels](kernels/README.md), and for your machine in ` + "`arbiterctl hooks`" + `.

The class is that of the hook that asks first: with free the task may sleep there; with locked its caller holds a lock, and with atomic the kernel
does not let it. An event whose hook a kernel lacks is not asked about on that kernel.

`

const esfHead = `The Endpoint Security Framework for Linux, a proof of concept after Apple's Endpoint Security, declares 49 event types and has hooks for
seven of them.

`

const tsemHead = `The Trusted Security Event Modeling LSM has 87 event types, each named after an LSM hook. It has none for io_uring, for changes of user ids, for mprotect and
for chroot.

`

// section writes what the event carries.
func (e *Event) section(b *strings.Builder) {
	fmt.Fprintf(b, "\n### %s\n\n%s.\n", e.Name(), strings.ToUpper(e.Doc[:1])+e.Doc[1:])
	if e.Object == "" && e.Detail == "" && !e.Access && len(e.Args) == 0 {
		b.WriteString("It carries the subject alone.\n")
		return
	}
	b.WriteString("\n| fact | what |\n|---|---|\n")
	if e.Object != "" {
		row(b, "object", e.Object)
	}
	if e.Detail != "" {
		row(b, "detail", e.Detail)
	}
	if e.Access {
		row(b, "access", "read, write, append, truncate, create")
	}
	for _, a := range e.Args {
		row(b, "`"+a.Name+"`", a.Doc)
	}
}

func mapping(b *strings.Builder, events []Foreign) {
	b.WriteString("| its event | here | remark |\n|---|---|---|\n")
	for i := range events {
		f := &events[i]
		here := "none"
		if len(f.Events) > 0 {
			var links []string
			for _, e := range f.Events {
				links = append(links, fmt.Sprintf("[%s](#%s)", e, e))
			}
			here = strings.Join(links, ", ")
		}
		row(b, f.Name, here, f.Why())
	}
}

// row writes one line of a table.
func row(b *strings.Builder, cells ...string) {
	b.WriteString("|")
	for _, c := range cells {
		b.WriteString(strings.TrimRight(" "+strings.ReplaceAll(c, "|", `\|`), " ") + " |")
	}
	b.WriteString("\n")
}

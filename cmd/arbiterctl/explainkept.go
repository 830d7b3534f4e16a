// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// keptText says how a task waits for the answer, what it depends on and who gives it again;
// a daemon that does not know these says none of it.
func keptText(x *controlv1.ExplainResponse) string {
	k := x.Kept
	if k == nil {
		return ""
	}
	var b strings.Builder
	if x.Waits != "" && !k.InKernel {
		fmt.Fprintf(&b, "until then the task waits so: %s\n", audit.Quote(x.Waits))
	}
	looked := "nothing"
	if len(x.Consulted) > 0 {
		looked = strings.Join(x.Consulted, ", ")
	}
	fmt.Fprintf(&b, "rules about the event look at: %s\n", audit.Quote(looked))
	if k.InKernel {
		b.WriteString("the kernel side decides it by itself, without a worker\n")
		return b.String()
	}
	said := func(who, not string) {
		if not == "" {
			fmt.Fprintf(&b, "%s keeps the answer for requests that agree in these\n", who)
		} else {
			fmt.Fprintf(&b, "%s does not keep the answer: %s\n", who, audit.Quote(not))
		}
	}
	said("the workers' cache", k.NotByWorker)
	said("the kernel side", k.NotByKernel)
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// WatchingRule is the beginning of the ids in what Watching returns.
const WatchingRule = "learn"

// Watching returns a rule file that refuses nothing and asks about the events in the
// scope, with the ids of its rules. Requests of a cgroup, where one is named, are audited,
// so that only they are recorded; without one all are allowed by these rules.
//
// A fact is fetched only where a rule looks at it, so each event has a rule that looks at
// all that a proposal will; what it does not match, the last one does.
func Watching(scope []string, events []abi.Event, cgroup string) (source []byte, ids []string) {
	w := &writer{}
	w.comment("", "Put in force by arbiterctl learn, for as long as it learns. It refuses nothing.")
	w.WriteString("version: 1\ndefault: allow\nscope:\n  paths:\n")
	for _, path := range scope {
		fmt.Fprintf(w, "    - %s\n", literal(path).yaml())
	}
	verdict, within, subject := "allow", "", ""
	if cgroup != "" {
		verdict, within = "audit", ", cgroup: "+scalar(cgroup)
		subject = ", subject: {cgroup: " + scalar(cgroup) + "}"
	}
	w.WriteString("rules:\n")
	var names []string
	for _, e := range events {
		ev := catalogue.Of(e)
		id := WatchingRule + "." + e.String()
		fmt.Fprintf(w, "  - {id: %s, events: [%v], subject: {exe: {prefix: /}%s}", id, e, within)
		if ev.Access {
			w.WriteString(", access: [read, write, append, truncate, create]")
		}
		if ev.Object != "" {
			w.WriteString(", object: {path: {prefix: /}}")
		}
		if ev.Detail != "" {
			w.WriteString(", detail: {prefix: /}")
		}
		fmt.Fprintf(w, ", verdict: %s}\n", verdict)
		ids, names = append(ids, id), append(names, e.String())
	}
	fmt.Fprintf(w, "  - {id: %s, events: [%s]%s, verdict: %s}\n", WatchingRule, strings.Join(names, ", "), subject, verdict)
	return w.Bytes(), append(ids, WatchingRule)
}

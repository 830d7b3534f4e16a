// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/rules/learn"
)

// loss is what was not learned although it happened, or may have.
type loss struct {
	watcher uint64   // events that we were too slow for
	journal uint64   // events that the daemon had no room for
	failed  uint64   // requests that went on by a failure verdict
	unasked uint64   // that the kernel side let go on without a question or a record
	full    uint64   // of kinds that there was no room for
	reasons []string // anything else, as a sentence

	// Not learned and no loss.
	refused uint64 // by the rules in force
}

func (l *loss) any() bool {
	return l.watcher+l.journal+l.failed+l.unasked+l.full > 0 || len(l.reasons) > 0
}

// because notes a reason, once.
func (l *loss) because(why string) {
	if !slices.Contains(l.reasons, why) {
		l.reasons = append(l.reasons, why)
	}
}

// lines says each in a line.
func (l *loss) lines() []string {
	var out []string
	add := func(n uint64, format string) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, n))
		}
	}
	add(l.watcher, "%d events were lost because arbiterctl was too slow")
	add(l.journal, "%d events were lost because the daemon had no room for them")
	add(l.failed, "%d requests in the scope went on by a failure verdict, of this workload or of another")
	add(l.unasked, "%d requests went on without being asked about")
	add(l.full, "%d requests of new kinds were left out: there were too many kinds")
	return append(out, l.reasons...)
}

// header is the top of the file.
func (l *learning) header(o *learn.Observed, lost *loss) []string {
	lines := []string{"Proposed by arbiterctl learn. Read it before you push it: it allows what happened, also what should not have."}
	if len(l.command) > 0 {
		lines = append(lines, "command: "+strings.Join(l.command, " "))
	} else {
		lines = append(lines, "cgroup: "+l.cgroup)
	}
	lines = append(lines, fmt.Sprintf("%s observed, of %s", plural(o.Requests(), "request"), plural(o.Kinds(), "kind")))
	for _, line := range lost.lines() {
		lines = append(lines, "INCOMPLETE: "+line)
	}
	if l.fall == "audit" {
		lines = append(lines, "default: audit refuses nothing and records what was not observed. When nothing comes any more, write deny.")
	}
	return lines
}

// shown is how many lines of a kind the terminal shows; the file has all prices.
const shown = 20

// review is what the person who is to read the file is told.
func (l *learning) review(p *learn.Proposal, o *learn.Observed, lost *loss) string {
	var b strings.Builder
	fmt.Fprintf(&b, "learned: %s from %s of %s, in %s\n", plural(p.Rules, "rule"), plural(p.Requests, "request"), plural(o.Kinds(), "kind"), audit.Quote(l.file))
	fmt.Fprintf(&b, "generalised: %s\n", plural(len(p.Prices), "pattern"))
	show := func(n int, line func(int) string) {
		for i := range min(n, shown) {
			b.WriteString("  " + line(i) + "\n")
		}
		if n > shown {
			fmt.Fprintf(&b, "  and %d more\n", n-shown)
		}
	}
	show(len(p.Prices), func(i int) string { return p.Prices[i].Rule + " " + p.Prices[i].String() })
	if len(p.Uncounted) > 0 {
		b.WriteString("not generalised, because the price cannot be counted:\n")
		show(len(p.Uncounted), func(i int) string { return p.Uncounted[i] })
	}
	for _, u := range p.Unexpressed {
		fmt.Fprintf(&b, "not expressed: %s\n", u)
	}
	if lost.refused > 0 {
		fmt.Fprintf(&b, "not proposed: %s that the rules in force refused\n", plural(lost.refused, "request"))
	}
	for _, line := range lost.lines() {
		fmt.Fprintf(&b, "INCOMPLETE: %s\n", line)
	}
	if l.file != "-" {
		name := audit.Quote(l.file)
		fmt.Fprintf(&b, "next: arbiterctl rules check --lint %s\nnext: arbiterctl rules push --confirm-within 2m %[1]s\n", name)
	}
	return safe(b.String())
}

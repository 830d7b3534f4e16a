// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// kept are the events of which the kernel side can keep allows.
var kept = setOf(abi.EventOpen, abi.EventExec)

// Kept says who gives a decision again without deciding anew.
type Kept struct {
	// InKernel: the kernel side decides such a request by itself, the next time as well.
	InKernel bool
	// NotByWorker and NotByKernel say why the cache of a worker, or the kernel side, does
	// not keep it; empty when it does. What the machine lacks for it is not known here.
	NotByWorker, NotByKernel string
}

// Kept says who gives what Decide said of a request again.
func (rs *RuleSet) Kept(r *abi.Request, d Decision) Kept {
	if r.Event >= abi.EventCount {
		return Kept{}
	}
	if rs.kernelDecides(r) {
		const why = "the kernel side decides it by itself, from ids, numbers, access and path"
		return Kept{InKernel: true, NotByWorker: why, NotByKernel: why}
	}
	var k Kept
	switch {
	case d.Once:
		k.NotByWorker = "the rule decides once"
	case d.Verdict.Action == Ask:
		k.NotByWorker = "somebody is asked, who says for how long an answer counts"
	}
	if k.NotByWorker != "" {
		k.NotByKernel = k.NotByWorker
		return k
	}
	switch others := rs.Consulted(r.Event) &^ abi.Keepable; {
	case !kept.has(r.Event):
		k.NotByKernel = "it keeps " + strings.Join(kept.names(), " and ") + " alone"
	case others != 0:
		k.NotByKernel = "rules about " + r.Event.String() + " look at " + strings.Join(FieldNames(others), ", ") + ", which it cannot compare"
	case d.Verdict.Action != Allow:
		k.NotByKernel = "it keeps plain allows alone"
	case r.Access&^(abi.AccessRead|abi.AccessExec) != 0:
		k.NotByKernel = "of opens it keeps those for reading alone"
	}
	return k
}

// kernelDecides reports whether the kernel side decides a request by itself.
func (rs *RuleSet) kernelDecides(r *abi.Request) bool {
	_, ok := abi.DecideKernel(rs.KernelRules(r.Event), r)
	return ok
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// Canary is a second rule set, which decides for a part of the subjects while the set in
// force decides for all others. The choice is made for each request, before the cache: keys
// say by which of the two a decision is, so none is taken for one of the other.
type Canary struct {
	Rules *rules.RuleSet
	Part  Part
}

// Part is a part of the subjects: the processes in a cgroup, else a share of all processes.
type Part struct {
	Cgroup uint64 // id of a cgroup, its descendants included; 0: by Share
	Share  uint64 // of 1<<64
	Seed   uint64 // chooses which processes; nobody who asks should know it
}

// ShareOf returns percent of 1<<64.
func ShareOf(percent float64) uint64 {
	if share := percent / 100 * (1 << 64); share < 1<<64 {
		return uint64(max(share, 0))
	}
	return math.MaxUint64
}

// Has reports whether a process belongs to the part. By share that is a matter of its
// number alone: all its threads belong to the part, or none, whatever they execute. The
// start time would not do, a source may give that of the thread.
func (p *Part) Has(tgid uint32, cgroups *[abi.CgroupLevels]uint64) bool {
	if p.Cgroup != 0 {
		return slices.Contains(cgroups[:], p.Cgroup)
	}
	return mix(p.Seed^uint64(tgid)) < p.Share
}

// mix is the finalizer of splitmix64: each bit of the result depends on all of x.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// InstallCanary has a second set decide for a part, beside the set in force, and returns
// when every worker does: no verdict of the set in force is given to the part after that.
// Nil ends it: then the set in force decides for all. So does Install. Errors are as for
// Install, and the change is made all the same.
func (a *Arbiter) InstallCanary(ctx context.Context, c *Canary, reason cache.Reason) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	live := a.current.Load().rules
	if c != nil && (c.Rules == nil || c.Rules.Epoch() == live.Epoch()) {
		return errors.New("installing a canary: it needs rules of an epoch of their own")
	}
	return a.install(ctx, live, c, reason)
}

// secondKey marks the keys of decisions by the canary: no event has that bit.
const (
	secondKey = 1 << 7
	_         = uint(secondKey - abi.EventCount) // does not compile when one does
)

// choose makes the rules by which the request at hand is decided those of its part.
func (w *worker) choose() {
	c := w.live.canary
	second := c.Part.Has(w.req.TGID, &w.req.Cgroup)
	switch {
	case second && w.mark == 0:
		w.decideBy(c.Rules)
		w.mark = secondKey
	case !second && w.mark != 0:
		w.decideBy(w.live.rules)
		w.mark = 0
	}
}

// decideBy makes rs the rules of the requests to come.
func (w *worker) decideBy(rs *rules.RuleSet) {
	w.rules, w.marks = rs, rs.Marks()
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		w.consulted[e], w.args[e] = rs.Consulted(e), rs.ConsultedArgs(e)
	}
}

// consulted returns the facts that were fetched for an event while i was in force.
func (i *installed) consulted(e abi.Event) abi.Fields {
	want := i.rules.Consulted(e)
	if i.canary != nil {
		want |= i.canary.Rules.Consulted(e)
	}
	return want
}

// of returns the one of the sets that has this epoch.
func (i *installed) of(epoch uint64) *rules.RuleSet {
	if i.canary != nil && i.canary.Rules.Epoch() == epoch {
		return i.canary.Rules
	}
	return i.rules
}

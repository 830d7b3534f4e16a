// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// DecideKnown is Decide for a request of which only the facts in r.Have are known, such as
// a recorded one. missing is 0 when the decision is the same whatever the others are; else
// it names facts that it depends on, and the decision means nothing.
func (rs *RuleSet) DecideKnown(r *abi.Request) (d Decision, missing abi.Fields) {
	// Fast path: everything that can matter is there.
	if rs.Consulted(r.Event)&^r.Have == 0 {
		return rs.Decide(r), 0
	}
	for _, i := range rs.lists[r.Event].rules {
		m := &rs.all[i]
		match := m.match.holdsKnown(r)
		not := no
		if m.not != nil {
			not = m.not.holdsKnown(r)
		}
		switch {
		case match == no || not == yes:
		case match == yes && not == no:
			return m.decision, 0
		default:
			return Decision{}, m.consulted() &^ r.Have
		}
	}
	return rs.fallback, 0
}

// answer says whether something holds.
type answer uint8

const (
	no answer = iota
	yes
	cannotTell
)

// holdsKnown reports whether all conditions hold, by the facts in r.Have alone.
func (c *conditions) holdsKnown(r *abi.Request) answer {
	if c.has&^r.Have == 0 {
		if c.fails(r) == none {
			return yes
		}
		return no
	}
	known := *c
	known.has &= r.Have
	drop := func(fact abi.Fields) bool { return r.Have&fact == 0 }
	if drop(abi.FieldAccess) {
		known.access = 0
	}
	if drop(abi.FieldPath) {
		known.path = nil
	}
	if drop(abi.FieldDetail) {
		known.detail = nil
	}
	if drop(abi.FieldExe) {
		known.exe = nil
	}
	if drop(abi.FieldArgs) {
		known.args, known.addr = nil, nil
	}
	if c.ids != nil {
		ids := *c.ids
		if drop(abi.FieldUID) {
			ids.uid, ids.euid = nil, nil
		}
		if drop(abi.FieldGID) {
			ids.gid, ids.egid = nil, nil
		}
		if drop(abi.FieldCgroup) {
			ids.cgroup = nil
		}
		known.ids = &ids
	}
	if known.fails(r) == none {
		return cannotTell
	}
	return no
}

// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// DecideKnown is Decide for a request of which only the facts in r.Have are known, such as
// a recorded one. missing is 0 when the decision is the same whatever the others are; else
// it names facts that it depends on, and the decision means nothing.
func (rs *RuleSet) DecideKnown(r *abi.Request) (d Decision, missing abi.Fields) {
	// Fast path: everything that can matter is there.
	if rs.Consulted(r.Event)&^r.Have == 0 {
		d = rs.Decide(r)
		return d, d.Needs()
	}
	for _, i := range rs.lists[r.Event].rules {
		m := &rs.all[i]
		if m.once && rs.spent(i) {
			continue
		}
		match, not, when := rs.holdsKnown(&m.match, r), no, yes
		if m.not != 0 {
			not = rs.holdsKnown(&rs.nots[m.not], r)
		}
		if w := rs.whens[m.when]; w != nil {
			if when = fault; w.consulted()&^r.Have == 0 {
				when = truthOf(w.holds(r))
			}
		}
		then := &rs.thens[m.then]
		switch {
		case match == no || not == yes || when == no:
		case match == yes && not == no && when == yes && (then.only == 0 || r.Have&abi.FieldAccess != 0):
			d = rs.decision(i, r)
			return d, d.Needs()
		default:
			fields, _ := rs.consulted(m, r.Event)
			return Decision{}, fields &^ r.Have
		}
	}
	return rs.fallback, 0
}

// holdsKnown reports whether all conditions hold, by the facts in r.Have alone: a fault when that
// hangs on others.
func (p *pool) holdsKnown(c *conditions, r *abi.Request) truth {
	if c.has&^r.Have == 0 {
		return truthOf(p.fails(c, r) == none)
	}
	known := *c
	known.has &= r.Have
	unknown := func(fact abi.Fields) bool { return r.Have&fact == 0 }
	if unknown(abi.FieldAccess) {
		known.access = 0
	}
	if unknown(abi.FieldPath) {
		known.path = texts{}
	}
	if unknown(abi.FieldDetail) {
		known.detail = texts{}
	}
	if unknown(abi.FieldExe) {
		known.exe = texts{}
	}
	ids := p.ids[c.ids]
	if unknown(abi.FieldUID) {
		ids.uid, ids.euid = nil, nil
	}
	if unknown(abi.FieldGID) {
		ids.gid, ids.egid = nil, nil
	}
	if unknown(abi.FieldCgroup) {
		ids.cgroup = nil
	}
	if unknown(abi.FieldAttributes) {
		ids.attributes = attributes{}
	}
	if unknown(abi.FieldSize) {
		ids.size = nil
	}
	if unknown(abi.FieldCredentials) {
		ids.credentials = credentials{}
	}
	if unknown(abi.FieldTree) {
		ids.tree = 0
	}
	content := p.contents[c.content].only(r.Have)
	known.content, known.ids = 0, 0
	if p.fails(&known, r) != none || p.idsFail(&ids, r) != none || content.refuted(r) != none {
		return no
	}
	return fault
}

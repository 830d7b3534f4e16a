// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"math"
	"slices"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// KernelRules returns the beginning of what an event is decided by, as far as the kernel
// side can decide it alone: rules that look at ids, numbers, access and simple patterns of the
// path only, and, when all rules of the event are of that kind, the default. A request that none
// of them matches has to be asked about, and more: see abi.DecideKernel. One rule can become
// several, for a list of values is a rule for each. Nil when there is nothing to decide there.
//
// The first that matches wins, as in Decide, and both come to the same verdict. They must not be
// modified.
func (rs *RuleSet) KernelRules(e abi.Event) []abi.KernelRule {
	if e == abi.EventNone || e >= abi.EventCount {
		return nil
	}
	return rs.lists[e].kernel
}

// newKernelRules makes what KernelRules returns.
func (rs *RuleSet) newKernelRules(e abi.Event) []abi.KernelRule {
	var out []abi.KernelRule
	var room patternRoom
	l := &rs.lists[e]
	for i := range l.rules {
		tests, paths, ok := rs.simple(l.rules[i], e)
		if !ok || len(out)+len(tests) > abi.MaxKernelRules || !room.take(paths, len(tests)) {
			return out
		}
		for _, t := range tests {
			out = append(out, abi.KernelRule{Rule: l.rules[i], Errno: rs.thens[rs.all[l.rules[i]].then].Verdict.Errno, Tests: t, Paths: paths})
		}
	}
	if len(out) == 0 || rs.fallback.Verdict.Action == Audit || len(out) == abi.MaxKernelRules {
		return out
	}
	return append(out, abi.KernelRule{Rule: -1, Errno: rs.fallback.Verdict.Errno})
}

// Sure reports whether a request is decided by one of KernelRules: what else of it is not known
// does not matter then. It allocates nothing.
func (rs *RuleSet) Sure(r *abi.Request) bool {
	return abi.MatchKernel(rs.KernelRules(r.Event), r) >= 0
}

// kernelDecidesAll reports whether no request of an event is asked about.
func (rs *RuleSet) kernelDecidesAll(e abi.Event) bool {
	rules := rs.KernelRules(e)
	return len(rules) > 0 && rules[len(rules)-1].Rule < 0 &&
		!slices.ContainsFunc(rules, func(k abi.KernelRule) bool { return k.Paths != nil })
}

// simple returns a rule as the kernel side could decide by it, and whether it could.
func (rs *RuleSet) simple(i int32, e abi.Event) (tests [][]abi.KernelTest, paths []abi.KernelPattern, ok bool) {
	m := &rs.all[i]
	then := &rs.thens[m.then]
	if a := then.Verdict.Action; m.not != 0 || m.when != 0 || a != Allow && a != Deny || m.once || then.only != 0 {
		return nil, nil, false
	}
	if tests, ok = rs.kernelTests(&m.match, e); ok {
		paths, ok = rs.kernelPatterns(m.match.path)
	}
	return tests, paths, ok
}

// kernelPatterns returns the patterns of a condition on the path, nil when it is not given. False
// when there is one that the kernel side cannot compare with.
func (p *pool) kernelPatterns(t texts) (out []abi.KernelPattern, ok bool) {
	if t.kind == noTexts {
		return nil, true
	}
	if p.len(t) > abi.MaxKernelPatterns {
		return nil, false
	}
	for q := range p.each(t) {
		k := abi.KernelPattern{Text: q.text}
		switch q.kind {
		case literal:
		case prefix:
			k.Kind = abi.PatternBelow
		default:
			if len(q.glob.code) != 1 || q.glob.tail != "" {
				return nil, false
			}
			k.Text, k.Kind = q.glob.head, abi.PatternWithin
			if q.glob.code[0].op == opDeep {
				k.Kind = abi.PatternBelow
			} else if q.glob.code[0].op != opStar {
				return nil, false
			}
		}
		if k.Text == "" || len(k.Text) > abi.KernelPatternBytes {
			return nil, false
		}
		out = append(out, k)
	}
	return out, true
}

// patternRoom is what the kernel side's room for the patterns of an event is taken up by.
type patternRoom struct {
	patterns   int
	beginnings map[int]bool // their lengths
}

// take takes room for patterns of so many rules. False when there is not enough.
func (r *patternRoom) take(patterns []abi.KernelPattern, rules int) bool {
	r.patterns += len(patterns) * rules
	for _, k := range patterns {
		if k.Kind == abi.PatternWhole {
			continue
		}
		if r.beginnings == nil {
			r.beginnings = map[int]bool{}
		}
		r.beginnings[len(k.Text)] = true
	}
	return r.patterns <= abi.MaxKernelPatterns && len(r.beginnings) <= abi.MaxKernelBeginnings
}

// kernelTests turns conditions into lists of tests: one of the lists has to hold. False
// when there is a condition that the kernel side does not know, or there are too many.
func (p *pool) kernelTests(c *conditions, e abi.Event) ([][]abi.KernelTest, bool) {
	const known = abi.FieldPath | abi.FieldUID | abi.FieldGID | abi.FieldArgs | abi.FieldAccess
	ids := &p.ids[c.ids]
	role := e == abi.EventExec && c.has&abi.FieldArgs != 0 // where a kernel cannot tell, a worker says so
	if c.has&^known != 0 || c.addr != 0 || ids.cgroup != nil || role {
		return nil, false
	}
	all := [][]abi.KernelTest{nil}
	// and requires one of several tests, beside all that is required already.
	and := func(tests []abi.KernelTest) bool {
		var next [][]abi.KernelTest
		for _, before := range all {
			for _, t := range tests {
				next = append(next, append(before[:len(before):len(before)], t))
			}
		}
		all = next
		return len(all) <= abi.MaxKernelRules && (len(all) == 0 || len(all[0]) <= abi.MaxKernelTests)
	}
	ok := true
	if c.access != 0 {
		ok = ok && and([]abi.KernelTest{anyBit(abi.KernelAccess, uint64(c.access))})
	}
	for _, id := range [...]struct {
		field  abi.KernelField
		ranges []numberRange
	}{{abi.KernelUID, ids.uid}, {abi.KernelEUID, ids.euid}, {abi.KernelGID, ids.gid}, {abi.KernelEGID, ids.egid}} {
		if id.ranges != nil {
			ok = ok && and(inTests(id.field, id.ranges))
		}
	}
	for _, a := range p.argsOf(c) {
		at := a.at[e]
		if at >= abi.Args {
			return nil, false // never matches: the worker says so
		}
		field := abi.KernelArg + abi.KernelField(at)
		if a.ranges == nil {
			if a.all != 0 {
				ok = ok && and([]abi.KernelTest{{Field: field, Mask: a.all, Low: a.all, High: a.all}})
			}
			if a.any != 0 {
				ok = ok && and([]abi.KernelTest{anyBit(field, a.any)})
			}
			continue
		}
		ok = ok && and(inTests(field, a.ranges))
	}
	return all, ok
}

// inTests returns tests of which one holds when the field is in one of the ranges.
func inTests(field abi.KernelField, ranges []numberRange) (tests []abi.KernelTest) {
	for _, r := range ranges {
		tests = append(tests, abi.KernelTest{Field: field, Mask: math.MaxUint64, Low: r.lo, High: r.hi})
	}
	return tests
}

func anyBit(field abi.KernelField, bits uint64) abi.KernelTest {
	return abi.KernelTest{Field: field, Mask: bits, Low: 1, High: math.MaxUint64}
}

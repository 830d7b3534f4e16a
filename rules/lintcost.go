// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// unkept names the rules because of which nothing of an event is kept.
func (l *linter) unkept() {
	for _, e := range kept.list() {
		var facts abi.Fields
		rules := l.about([]abi.Event{e}, func(i int32, e abi.Event) bool {
			f, _ := l.rs.consulted(&l.rs.all[i], e)
			facts |= f &^ abi.Keepable
			return f&^abi.Keepable != 0
		})
		if rules != nil {
			l.note(rules, fmt.Sprintf("no %s is kept by the kernel side, and each that it does not decide alone waits for a worker: the rule looks at %s", e, strings.Join(FieldNames(facts), ", ")),
				"if that is too slow, say it with other facts, or by rules about fewer events")
		}
	}
}

// recorded names the rules that let opens and execs go on and have a worker see each.
func (l *linter) recorded() {
	which := func(what func(m *matcher) bool) []int32 {
		return l.about(kept.list(), func(i int32, _ abi.Event) bool { return what(&l.rs.all[i]) })
	}
	if rules := which(func(m *matcher) bool { return l.rs.thens[m.then].Verdict.Action == Audit }); rules != nil {
		l.note(rules, "the rule records all that it lets go on, so each waits for a worker: the kernel side keeps plain allows alone", "write allow for what nobody reads the records of")
	}
	if rules := which(func(m *matcher) bool { return m.once }); rules != nil {
		l.note(rules, "what the rule decides is kept nowhere: it decides once", "")
	}
}

// manyValued are the arguments that hardly two requests agree in.
var manyValued = []string{"addr_low", "addr_high", "port", "target_pid", "size", "id", "seconds"}

// perValue names the rules because of which the workers' cache knows a decision for one value
// of a number alone.
func (l *linter) perValue() {
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		args := l.rs.lists[e].args
		if l.rs.lists[e].consulted&abi.FieldArgs == 0 || args == 0 || l.rs.kernelDecidesAll(e) {
			continue
		}
		var many uint8
		var names []string
		for _, name := range manyValued {
			if at := catalogue.Of(e).Arg(name); at >= 0 && args>>at&1 != 0 {
				many |= 1 << at
				names = append(names, name)
			}
		}
		rules := l.about([]abi.Event{e}, func(i int32, e abi.Event) bool {
			_, args := l.rs.consulted(&l.rs.all[i], e)
			return args&many != 0
		})
		if rules != nil {
			l.note(rules, fmt.Sprintf("a decision of %s is cached for one value of %s alone: the rule looks at it", e, strings.Join(names, ", ")), "")
		}
	}
}

// behind names the rules that keep the kernel side from deciding by those that come after them,
// which it could.
func (l *linter) behind() {
	could := map[int32]map[int32]bool{}
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		list := l.rs.lists[e].rules
		first := slices.IndexFunc(list, func(i int32) bool {
			_, _, ok := l.rs.simple(i, e)
			return !ok
		})
		if first < 0 {
			continue
		}
		for _, i := range list[first+1:] {
			if _, paths, ok := l.rs.simple(i, e); ok && paths != nil && l.lets(i) {
				if could[list[first]] == nil {
					could[list[first]] = map[int32]bool{}
				}
				could[list[first]][i] = true
			}
		}
	}
	for i, rules := range could {
		var names []string
		all := slices.Sorted(maps.Keys(rules))
		for _, k := range all[:min(len(all), notedRules)] {
			names = append(names, l.named(k))
		}
		l.add(int(i), "what rules behind it let go on by path waits for a worker, and the kernel side could decide it alone: "+several(names, len(all)),
			"put them before it, where it does not matter which comes first")
	}
}

// manyUnfiled is from how many rules on that are compared one after another it is said.
const manyUnfiled = 100

// unfiled names rules that a request is compared with one after another.
func (l *linter) unfiled() {
	said := map[*node]bool{}
	say := func(n *node, format string, args ...any) {
		if n == nil || said[n] || len(n.rest) <= manyUnfiled {
			return
		}
		said[n] = true
		var names []string
		for _, i := range n.rest[:notedRules] {
			names = append(names, l.named(i))
		}
		l.add(int(n.rest[0]), fmt.Sprintf(format, args...)+" one after another, for nothing that they ask for tells them apart: "+several(names, len(n.rest)),
			"give them a path, or a beginning or an end of one, a user, a cgroup or a number that few others have")
	}
	for e := range l.rs.lists {
		if n := l.rs.lists[e].root; n != nil {
			say(n, "a request of %s is compared with %d rules", abi.Event(e), len(n.rest))
		}
	}
	for _, n := range l.rs.nodes[1:] {
		if n != nil {
			say(n, "a request that has what %d rules ask for alike is compared with them", len(n.rest))
		}
	}
}

// muchWhenCost is from which estimate on it is said; see maxWhenCost.
const muchWhenCost = maxWhenCost / 2

// costly names the rules whose expression takes long.
func (l *linter) costly() {
	for i := range l.rs.all {
		if w := l.rs.whens[l.rs.all[i].when]; w != nil && w.cost > muchWhenCost {
			l.add(i, fmt.Sprintf("when can cost %d of the %d that are allowed, on the longest paths: it is evaluated wherever the rest of the rule matches", w.cost, maxWhenCost),
				"contains and matches cost most: give the rule an object.path or another condition beside when")
		}
	}
}

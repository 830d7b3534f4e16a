// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
	"github.com/arbiterd/arbiter/rules"
)

// refusesNothing reports whether a set in force can be exchanged for one that only asks
// without anything going on that did not before. None is one that refuses nothing.
func refusesNothing(rs *rules.RuleSet) bool {
	if rs == nil {
		return true
	}
	d := rs.Default()
	return rs.Len() == 0 && d.Verdict.Action == rules.Allow && d.OnFail.Action == rules.Allow
}

// gaps says why the rules in force do not show all that there is to learn, one reason a
// line; none: they do. Only what is asked about is seen, and of it only the facts that some
// rule looks at.
func gaps(rs *rules.RuleSet, scope []string, events []abi.Event) (why []string) {
	if rs == nil {
		return []string{"no rules are in force, so nothing is asked about"}
	}
	add := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	s := rs.Scope()
	for _, dim := range s.Named() {
		if dim != "paths" {
			add("their scope is by %s too, so they ask about a part alone", dim)
		}
	}
	for _, path := range scope {
		if !slices.ContainsFunc(s.Paths, func(root string) bool {
			return root == "/" || path == root || strings.HasPrefix(path, root+"/")
		}) {
			add("%s is not in their scope", quoteArg(path))
		}
	}
	if mute := rs.Mute(); len(mute.Named()) > 0 {
		add("they leave something alone: mute")
	}
	for _, e := range events {
		if !slices.Contains(rs.Events(), e) {
			add("they do not ask about %s", e)
			continue
		}
		looked, ev := rs.Consulted(e), catalogue.Of(e)
		for _, fact := range []struct {
			bit  abi.Fields
			has  bool
			name string
		}{{abi.FieldExe, true, "subject.exe"}, {abi.FieldAccess, ev.Access, "access"},
			{abi.FieldPath, ev.Object != "", "object.path"}, {abi.FieldDetail, ev.Detail != "", "detail"}} {
			if fact.has && looked&fact.bit == 0 {
				add("no rule about %s looks at %s, so it is not fetched", e, fact.name)
			}
		}
	}
	return why
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// args reads conditions on the numbers of a rule's events into b.
func (p *parser) args(n *yaml.Node, about eventSet, b *block) {
	const form = "write args: {NAME: NUMBER}, such as args: {port: 443}"
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		if n.Kind != yaml.AliasNode {
			p.add(n, form, "args must be a mapping of names to numbers, not %s", emptyOr(n))
		}
		return
	}
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		name, ok := p.text(k, "the name of an argument", form)
		if !ok {
			continue
		}
		if line, dup := first[name]; dup {
			p.add(k, "write its numbers in one list", "the argument %s is there twice, first on line %d", bare(name), line)
			continue
		}
		first[name] = k.Line
		if name == addrName {
			if _, ok := p.argName(k, name, about); ok {
				b.addr = p.addrs(v)
			}
			continue
		}
		if names, ok := p.argName(k, name, about); ok {
			if t := p.argTest(v, "args."+name, names); t.ranges != nil || t.all|t.any != 0 {
				t.name = strings.Clone(name) // without all that was read with it
				b.args = append(b.args, t)
			}
		}
	}
	// By name, so that the order of writing does not matter.
	slices.SortFunc(b.args, func(a, b argTest) int { return strings.Compare(a.name, b.name) })
}

func emptyOr(n *yaml.Node) string {
	if n.Kind == yaml.MappingNode {
		return "an empty one"
	}
	return kind(n)
}

// argName checks that all events of the rule have the argument, and returns the names
// of its numbers.
func (p *parser) argName(k *yaml.Node, name string, about eventSet) (numbering, bool) {
	have := withArg(name)
	if have == 0 {
		hint := argsOf(about)
		if near := suggest(name, argNames(about)); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		p.add(k, hint, "no event has an argument %s", bare(name))
		return plainNumbers, false
	}
	good := true
	for _, e := range (about &^ have).list() {
		hint := argsOf(setOf(e))
		if about != setOf(e) {
			hint += "; put " + e.String() + " in a rule of its own"
		}
		p.add(k, "it is one of "+strings.Join(have.names(), ", ")+"; "+hint, "the event %s has no argument %s", e, name)
		good = false
	}
	var names numbering
	for i, e := range (about & have).list() {
		of := namesOf(e, name)
		if i == 0 {
			names = of
		}
		if names != of { // mode of chmod and of ptrace
			p.add(k, "give each a rule of its own", "the argument %s is another thing for %s than for the other events of the rule", name, e)
			return plainNumbers, false
		}
	}
	return names, good && about != 0
}

// argNames lists the arguments of some events.
func argNames(s eventSet) []string {
	var out []string
	for _, e := range s.list() {
		for _, a := range catalogue.Of(e).Args {
			if !slices.Contains(out, a.Name) {
				out = append(out, a.Name)
			}
		}
		if withArg(addrName).has(e) && !slices.Contains(out, addrName) {
			out = append(out, addrName)
		}
	}
	return out
}

// argTest reads what an argument is compared with; nothing when there is a problem.
func (p *parser) argTest(n *yaml.Node, what string, names numbering) (t argTest) {
	if n.Kind == yaml.MappingNode {
		m := p.fields(n, what, "all", "any")
		for _, b := range [...]struct {
			key  string
			bits *uint64
		}{{"all", &t.all}, {"any", &t.any}} {
			if v := m.get(b.key); v != nil {
				*b.bits = p.mask(v, what+"."+b.key, names)
			}
		}
		return t
	}
	hint := "write a number, a range such as 1024-65535, a list of them, or bits as {all: 0x6} or {any: 0x6}"
	if names.named() {
		hint = "write a number or a name such as " + names.example() + ", a range, a list of them, or bits as {all: 0x6} or {any: 0x6}"
	}
	t.ranges = values(p, n, what, names, false, func(e *yaml.Node) (r numberRange, ok bool) {
		s, ok := p.text(e, what, hint)
		if !ok {
			return r, false
		}
		r, wrong := numberRangeOf(s, names)
		if wrong != "" {
			p.add(e, wrong, "%s %s is not a number or a range", what, quote(s))
		}
		return r, wrong == ""
	})
	return t
}

// numberRangeOf reads "5", "5-9" or a name.
func numberRangeOf(s string, names numbering) (numberRange, string) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange || first == "" {
		v, hint := number(names, s)
		return numberRange{v, v}, hint
	}
	lo, hint := parseNumber(strings.TrimSpace(first))
	if hint != "" {
		return numberRange{}, hint
	}
	hi, hint := parseNumber(strings.TrimSpace(last))
	if hint != "" {
		return numberRange{}, hint
	}
	if hi < lo {
		return numberRange{}, "write the smaller number first: " + strings.TrimSpace(last) + "-" + strings.TrimSpace(first)
	}
	return numberRange{lo, hi}, ""
}

// mask reads bits: one number or name, or a list that is put together.
func (p *parser) mask(n *yaml.Node, what string, names numbering) (bits uint64) {
	const hint = "write the bits as a number such as 0x6, or list them"
	for _, e := range p.list(n, what) {
		s, ok := p.text(e, what, hint)
		if !ok {
			continue
		}
		v, wrong := number(names, s)
		switch {
		case wrong != "":
			p.add(e, wrong, "%s %s is not a number", what, quote(s))
		case v == 0:
			p.add(e, hint+"; a number without bits is compared as it is, without all and any", "%s has no bits", what)
		}
		bits |= v
	}
	return bits
}

// argIndex returns where the events have the argument of that name, abi.Args where they
// have none.
func argIndex(name string) *[abi.EventCount]uint8 {
	var at [abi.EventCount]uint8
	for e := range at {
		at[e] = abi.Args
		if ev := catalogue.Of(abi.Event(e)); ev != nil {
			if i := ev.Arg(name); i >= 0 {
				at[e] = uint8(i)
			}
		}
	}
	return &at
}

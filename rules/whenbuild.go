// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// whenBuilder compiles what has been checked.
type whenBuilder struct {
	*whenReader
	checked *ast.AST
}

// kind returns what an expression has for a value. The checker has seen to it that it is
// one of these.
func (b *whenBuilder) kind(e ast.Expr) whenKind {
	switch b.checked.GetType(e.ID()).Kind() {
	case types.IntKind:
		return isSigned
	case types.UintKind:
		return isUnsigned
	case types.StringKind:
		return isText
	case types.OpaqueKind:
		return isAddr
	}
	return isTruth
}

func (b *whenBuilder) node(e ast.Expr) *whenNode {
	n := &whenNode{kind: b.kind(e)}
	switch e.Kind() {
	case ast.LiteralKind:
		n.constant(e)
		if n.op == whenNumber {
			n.text = []byte(b.spelt[e.ID()])
		}
	case ast.IdentKind:
		f := b.facts[e.AsIdent()]
		n.op, n.access = f.op, f.access
		if f.arg != "" && f.op == whenArg {
			n.name, n.at = f.arg, argIndex(f.arg)
		}
	case ast.CallKind:
		b.call(n, e)
	default:
		panic(fmt.Sprintf("BUG: expression of the kind %d passed the check", e.Kind()))
	}
	return n
}

func (n *whenNode) constant(e ast.Expr) {
	switch v := e.AsLiteral().(type) {
	case types.Bool:
		n.op = whenTruth
		if v {
			n.number = 1
		}
	case types.Int:
		n.op, n.number = whenNumber, uint64(v)
	case types.Uint:
		n.op, n.number = whenNumber, uint64(v)
	case types.String:
		n.op, n.text = whenText, []byte(v)
	}
}

func (b *whenBuilder) call(n *whenNode, e ast.Expr) {
	c := e.AsCall()
	f := b.functions[c.FunctionName()]
	n.op, n.rel = f.op, f.rel
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	switch n.op {
	case whenIn, whenAll, whenAny, whenInNet, whenMatches:
		n.kids = []*whenNode{b.node(args[0])}
		b.constants(n, args[1])
		return
	}
	for _, a := range args {
		k := b.node(a)
		if k.op == n.op && (n.op == whenAnd || n.op == whenOr) {
			n.kids = append(n.kids, k.kids...)
		} else {
			n.kids = append(n.kids, k)
		}
	}
	// CEL reads -1 as a number, and -(1) not: let them be the same.
	if v, ok := n.negated(); ok {
		*n = whenNode{op: whenNumber, kind: isSigned, number: v}
	}
}

// negated returns the value of a constant with a - before it.
func (n *whenNode) negated() (uint64, bool) {
	if n.op != whenNegate || n.kids[0].op != whenNumber {
		return 0, false
	}
	return n.value(nil)
}

// constants compiles the list, or the one constant, that stands in the second place.
func (b *whenBuilder) constants(n *whenNode, e ast.Expr) {
	elements := []ast.Expr{e}
	if e.Kind() == ast.ListKind {
		elements = e.AsList().Elements()
	}
	var texts []string
	var nets []netip.Prefix
	for _, x := range elements {
		k := b.node(x)
		n.list = append(n.list, k)
		switch {
		case k.op != whenText && n.op == whenIn:
			n.ranges = append(n.ranges, numberRange{k.number, k.number})
		case k.op != whenText:
			n.number |= k.number
		case n.op == whenIn:
			texts = append(texts, string(k.text))
		case n.op == whenInNet:
			net, wrong, hint := parseNet(string(k.text))
			if wrong != "" {
				b.fail(x, hint, "%s %s", quote(string(k.text)), wrong)
				continue
			}
			nets = append(nets, net)
		case n.op == whenMatches:
			var err error
			if n.dfa, err = compileDFA(string(k.text)); err != nil {
				b.fail(x, regexHint, "the pattern %s %v", quote(string(k.text)), err)
			}
		}
	}
	n.ranges = mergeRanges(n.ranges)
	if n.texts = texts; len(texts) > fewPatterns {
		n.texts, n.many = nil, map[string]struct{}{}
		for _, s := range texts {
			n.many[s] = struct{}{}
		}
	}
	if n.op == whenInNet {
		c := compiler{indexes: map[string]*[abi.EventCount]uint8{}}
		m := c.addrs(nets)
		n.nets = &m
	}
}

// consulted returns the facts that a node looks at.
func (n *whenNode) consulted() (f abi.Fields) {
	switch n.op {
	case whenAccess:
		f = abi.FieldAccess
	case whenArg, whenAddr:
		f = abi.FieldArgs
	}
	for i := range whenFacts {
		if whenFacts[i].op == n.op {
			f = whenFacts[i].field
		}
	}
	for _, k := range n.kids {
		f |= k.consulted()
	}
	return f
}

// asksEvent reports whether a node looks at the event.
func (n *whenNode) asksEvent() bool {
	for _, k := range n.kids {
		if k.asksEvent() {
			return true
		}
	}
	return n.op == whenEvent
}

// args returns which of Request.Arg a node looks at, for an event that has all of them.
func (n *whenNode) args(e abi.Event) (bits uint8) {
	switch n.op {
	case whenArg:
		bits = 1 << n.at[e]
	case whenInNet:
		bits = 1<<n.nets.family[e] | 1<<n.nets.high[e] | 1<<n.nets.low[e]
	}
	for _, k := range n.kids {
		bits |= k.args(e)
	}
	return bits
}

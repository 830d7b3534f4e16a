// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// constant checks what has to be a constant, or a list of them.
func (r *whenReader) constant(e ast.Expr, f *whenFunction) {
	list := e.Kind() == ast.ListKind && f.op != whenMatches
	elements := []ast.Expr{e}
	if list {
		elements = e.AsList().Elements()
	}
	if len(elements) == 0 {
		r.fail(e, "write what it can be, or leave the test out", "the list is empty")
	}
	for _, x := range elements {
		switch {
		case x.Kind() == ast.LiteralKind:
			r.resolve(x, 1)
		case list:
			r.fail(x, "compare with each by ==, joined with ||", "not supported in when: a list of other things than constants")
		default:
			r.fail(x, "it is for "+f.takes, "not supported in when: %s with what is no constant", f.written)
		}
	}
}

// sameKind checks that a list has constants of one kind.
func (r *whenReader) sameKind(e ast.Expr) {
	if r.err != nil || e.Kind() != ast.ListKind {
		return
	}
	elements := e.AsList().Elements()
	first := elements[0].AsLiteral().Type().(*types.Type)
	for _, x := range elements {
		if t := x.AsLiteral().Type().(*types.Type); t != first {
			r.fail(x, "write a list of texts, or one of numbers", "the list has %s behind %s", kindOf(t), kindOf(first))
		}
	}
}

// alike makes the constants beside a number without a sign such numbers as well: in
// subject.uid == 0, the 0 is one.
func (r *whenReader) alike(args []ast.Expr, kinds []*types.Type) {
	switch {
	case kinds[0] == types.UintType && kinds[1] == types.IntType:
		r.unsign(args[1])
	case kinds[1] == types.UintType && kinds[0] == types.IntType:
		r.unsign(args[0])
	}
}

// unsign makes the constants of an expression numbers without a sign. What is left with a
// sign the checker refuses.
func (r *whenReader) unsign(e ast.Expr) {
	switch e.Kind() {
	case ast.LiteralKind:
		if n, ok := e.AsLiteral().(types.Int); ok {
			if n < 0 {
				_, hint := parseNumber(fmt.Sprint(int64(n)))
				r.fail(e, hint, "facts are never less than 0, as %d is", int64(n))
				return
			}
			e.SetKindCase(ast.NewExprFactory().NewLiteral(e.ID(), types.Uint(n)))
		}
	case ast.ListKind:
		for _, x := range e.AsList().Elements() {
			r.unsign(x)
		}
	case ast.CallKind:
		c := e.AsCall()
		switch c.FunctionName() {
		case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
			r.unsign(c.Args()[0])
			r.unsign(c.Args()[1])
		case operators.Conditional:
			r.unsign(c.Args()[1])
			r.unsign(c.Args()[2])
		}
	}
}

// words replaces texts that stand beside a number of args by the numbers that they name,
// and looks up the events that event is compared with.
func (r *whenReader) words(fact, e ast.Expr, op whenOp) {
	if e.Kind() == ast.ListKind {
		for _, x := range e.AsList().Elements() {
			r.words(fact, x, op)
		}
		return
	}
	if e.Kind() != ast.LiteralKind {
		return
	}
	bits := op == whenAll || op == whenAny
	if bits {
		r.unsign(e)
	}
	name, _ := qualified(fact)
	text, isText := e.AsLiteral().(types.String)
	arg, isArg := strings.CutPrefix(name, "args.")
	switch {
	case isText && name == "event":
		r.eventName(e, string(text))
	case isText && isArg && arg != addrName:
		v, hint := number(namesOf(r.about.list()[0], arg), string(text))
		if hint != "" {
			r.fail(e, hint, "%s %s is not a number", name, quote(string(text)))
			return
		}
		r.spelt[e.ID()] = string(text)
		e.SetKindCase(ast.NewExprFactory().NewLiteral(e.ID(), types.Uint(v)))
	}
	if n, ok := e.AsLiteral().(types.Uint); ok && bits && n == 0 {
		r.fail(e, "compare it with == 0", "%s has no bits to test", name)
	}
}

// eventName checks a name that event is compared with.
func (r *whenReader) eventName(e ast.Expr, name string) {
	switch event, ok := abi.ParseEvent(name); {
	case !ok:
		r.fail(e, UnknownEvent(name), "there is no event %s", bare(name))
	case !r.about.has(event):
		r.fail(e, "add it to the events of the rule, or take the test out", "the rule is not about the event %s", name)
	}
}

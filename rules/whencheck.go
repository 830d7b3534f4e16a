// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"go.yaml.in/yaml/v3"
)

var tooDeep = fmt.Sprintf("the expression is nested deeper than %d", maxWhenDepth)

const deepHint = "split the rule, or take parentheses out"

// whenReader reads one expression. It stops at the first thing that is wrong.
type whenReader struct {
	*whenLanguage
	about  eventSet
	source common.Source
	parsed *ast.AST
	spelt  map[int64]string // numbers that were written as texts, by expression
	err    *whenError
}

// read parses, checks and bounds an expression, compiles it, and returns what it can cost.
func (l *whenLanguage) read(text string, about eventSet) (*whenNode, uint64, *whenError) {
	r := &whenReader{whenLanguage: l, about: about, source: common.NewTextSource(text), spelt: map[int64]string{}}
	parsed, errs := l.parser.Parse(r.source)
	if all := errs.GetErrors(); len(all) > 0 {
		return nil, 0, r.syntax(text, all[0])
	}
	r.parsed = parsed
	if r.resolve(parsed.Expr(), 1); r.err != nil {
		return nil, 0, r.err
	}
	checked, errs := checker.Check(parsed, r.source, l.env)
	if all := errs.GetErrors(); len(all) > 0 {
		return nil, 0, r.mistyped(checked, all[0])
	}
	if checked.GetType(checked.Expr().ID()) != types.BoolType {
		return nil, 0, &whenError{1, "the expression is " + kindOf(checked.GetType(checked.Expr().ID())) + " and not true or false", "compare it, as in subject.uid == 0"}
	}
	estimate, err := cost.Cost(checked, whenSizes{})
	if err != nil {
		return nil, 0, &whenError{1, "the cost of the expression cannot be estimated: " + err.Error(), "write a simpler one"}
	}
	if estimate.Max > maxWhenCost {
		return nil, 0, &whenError{1, fmt.Sprintf("the expression can cost %d, at most %d is allowed", estimate.Max, maxWhenCost),
			"contains and matches cost most: look for shorter texts, or test with startsWith, endsWith, or object.path beside when"}
	}
	b := &whenBuilder{whenReader: r, checked: checked}
	root := b.node(checked.Expr())
	return root, estimate.Max, b.err
}

// fail notes what is wrong with an expression, unless something is already.
func (r *whenReader) fail(e ast.Expr, hint, format string, args ...any) {
	if r.err == nil {
		r.err = &whenError{r.column(e), fmt.Sprintf(format, args...), hint}
	}
}

var isWord = regexp.MustCompile(`^\w+$`)

// column returns where the leftmost part of an expression begins.
func (r *whenReader) column(e ast.Expr) int {
	at := math.MaxInt32
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		o, ok := r.parsed.SourceInfo().GetOffsetRange(e.ID())
		if !ok {
			return
		}
		start := int(o.Start)
		if e.Kind() == ast.CallKind && !e.AsCall().IsMemberFunction() && isWord.MatchString(e.AsCall().FunctionName()) {
			start = max(0, start-len(e.AsCall().FunctionName())) // of a call it is the parenthesis
		}
		at = min(at, start)
	}))
	if at == math.MaxInt32 {
		return 1
	}
	return at + 1
}

// resolve checks that all of the expression is part of the language, and turns names and
// numbers as rules write them into numbers as CEL has them. It returns the type of the
// expression, nil when it is only known later.
func (r *whenReader) resolve(e ast.Expr, depth int) *types.Type {
	switch {
	case r.err != nil:
		return nil
	case depth > maxWhenDepth:
		r.fail(e, deepHint, "%s", tooDeep)
		return nil
	}
	switch e.Kind() {
	case ast.LiteralKind:
		switch e.AsLiteral().(type) {
		case types.Bool, types.Int, types.Uint, types.String:
			return e.AsLiteral().Type().(*types.Type)
		case types.Double:
			r.fail(e, "write a whole number", "not supported in when: a number with a fraction")
		case types.Bytes:
			r.fail(e, "write a text without b, or other bytes as a pattern of object.path, with !!binary", "not supported in when: bytes")
		default:
			r.fail(e, "a fact that is not known makes no comparison with it true", "not supported in when: null")
		}
	case ast.IdentKind, ast.SelectKind:
		if name, ok := qualified(e); ok {
			return r.fact(e, name)
		}
		r.fail(e, "facts are the only names with a dot", "not supported in when: the field %s of a value", bare(e.AsSelect().FieldName()))
	case ast.CallKind:
		return r.call(e, depth)
	case ast.ListKind:
		r.fail(e, "lists stand behind in, and in the parentheses of hasAll, hasAny and inNet", "not supported in when: a list here")
	case ast.MapKind, ast.StructKind:
		r.fail(e, "take it out", "not supported in when: a map or a message")
	default:
		r.fail(e, noLists, "not supported in when: a comprehension")
	}
	return nil
}

// qualified returns the name that an expression is, such as subject.uid.
func qualified(e ast.Expr) (string, bool) {
	switch e.Kind() {
	case ast.IdentKind:
		return e.AsIdent(), true
	case ast.SelectKind:
		s := e.AsSelect()
		left, ok := qualified(s.Operand())
		return left + "." + s.FieldName(), ok && !s.IsTestOnly()
	}
	return "", false
}

// fact checks that there is such a fact, in all events of the rule.
func (r *whenReader) fact(e ast.Expr, name string) *types.Type {
	f := r.facts[name]
	arg, isArg := strings.CutPrefix(name, "args.")
	switch {
	case isArg:
		if p, bad := argProblem(arg, r.about); bad {
			r.fail(e, p.Hint, "%s", p.Message)
			return nil
		}
	case f == nil:
		r.fail(e, r.factHint(name, r.about), "there is no fact %s", bare(name))
		return nil
	}
	if missing := (r.about &^ f.with).list(); len(missing) > 0 {
		field, _, _ := strings.Cut(name, ".")
		r.fail(e, instead(field, missing[0], r.about), "the event %s has no %s", missing[0], name)
		return nil
	}
	// One name, as the checker would make it, but with the place where it begins.
	at := int32(r.column(e) - 1)
	r.parsed.SourceInfo().SetOffsetRange(e.ID(), ast.OffsetRange{Start: at, Stop: at + int32(len(name))})
	e.SetKindCase(ast.NewExprFactory().NewIdent(e.ID(), name))
	return f.typ
}

// argProblem says what is wrong with an argument of some events, as for args of a rule.
func argProblem(name string, about eventSet) (Problem, bool) {
	p := parser{}
	if _, ok := p.argName(new(yaml.Node), name, about); ok || len(p.problems) == 0 {
		return Problem{}, false
	}
	return p.problems[0], true
}

// call checks an operator or a function with what it is given.
func (r *whenReader) call(e ast.Expr, depth int) *types.Type {
	c := e.AsCall()
	f := r.functions[c.FunctionName()]
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	if f == nil || !f.takesSo(c.IsMemberFunction(), len(args)) {
		r.unknownCall(e, f)
		return nil
	}
	var kinds []*types.Type
	for i, a := range args {
		if i == 1 && f.op.takesConstant() {
			kinds = append(kinds, nil)
			r.constant(a, f)
			continue
		}
		kinds = append(kinds, r.resolve(a, depth+1))
	}
	if r.err != nil {
		return nil
	}
	switch f.op {
	case whenAnd, whenOr, whenNot, whenStarts, whenEnds, whenContains, whenMatches, whenInNet:
		return types.BoolType
	case whenSize, whenNegate:
		return types.IntType
	case whenAll, whenAny:
		r.words(args[0], args[1], f.op)
		return types.BoolType
	case whenIn:
		r.words(args[0], args[1], f.op)
		if kinds[0] == types.UintType {
			r.unsign(args[1])
		}
		r.sameKind(args[1])
		return types.BoolType
	case whenIf:
		r.alike(args[1:], kinds[1:])
		if kinds[2] == types.UintType {
			return kinds[2]
		}
		return kinds[1]
	}
	r.words(args[0], args[1], f.op)
	r.words(args[1], args[0], f.op)
	r.alike(args, kinds)
	switch {
	case f.op == whenCompare:
		return types.BoolType
	case kinds[1] == types.UintType:
		return kinds[1]
	}
	return kinds[0]
}

// takesSo reports whether the function is written so, with so many arguments.
func (f *whenFunction) takesSo(member bool, args int) bool {
	if f.op == whenAnd || f.op == whenOr {
		return !member
	}
	for _, o := range f.overloads {
		if o.member == member && len(o.args) == args {
			return true
		}
	}
	return false
}

// unknownCall refuses a call that is not of the language.
func (r *whenReader) unknownCall(e ast.Expr, f *whenFunction) {
	c := e.AsCall()
	name := c.FunctionName()
	switch {
	case f != nil && c.IsMemberFunction() && len(c.Args()) > 1:
		r.fail(e, noLists, "not supported in when: %s with more than one value in parentheses", name)
	case f != nil:
		r.fail(e, "it is for "+f.takes, "%s is not written so", name)
	case foreign[name] == noLists && strings.Contains(name, "_"+"["):
		r.fail(e, noLists, "not supported in when: an index")
	case foreign[name] != "":
		r.fail(e, foreign[name], "not supported in when: the function %s", bare(name))
	default:
		var names []string
		for _, f := range whenFunctions() {
			if f.overloads[len(f.overloads)-1].member {
				names = append(names, f.name)
			}
		}
		hint := "the functions are " + strings.Join(names, ", ")
		if near := suggest(name, names); near != "" {
			hint = "did you mean " + near + "? " + hint
		}
		r.fail(e, hint, "there is no function %s", bare(name))
	}
}

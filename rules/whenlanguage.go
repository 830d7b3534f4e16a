// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"

	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/containers"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/decls"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
	celparser "cel.dev/cel-go/parser"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// whenLanguage is the part of CEL that expressions are written in: what there is no
// declaration of here is refused.
type whenLanguage struct {
	parser    *celparser.Parser
	env       *checker.Env
	facts     map[string]*whenFact
	functions map[string]*whenFunction
}

// whenFunction is an operator or a function.
type whenFunction struct {
	name      string // of CEL
	written   string // as people write it
	takes     string // what, for messages
	op        whenOp
	rel       relation
	overloads []whenOverload
}

// whenOverload is one of the types that a function is for, with the name that CEL's
// standard library has for it.
type whenOverload struct {
	id     string
	member bool // written behind a dot
	args   []*types.Type
	result *types.Type
}

func over(id string, result *types.Type, args ...*types.Type) whenOverload {
	return whenOverload{id, false, args, result}
}

func member(id string, result *types.Type, args ...*types.Type) whenOverload {
	return whenOverload{id, true, args, result}
}

// whenFunctions is the table of what can be called. hasAll, hasAny and inNet are not of CEL.
func whenFunctions() []whenFunction {
	b, i, u, s, a := types.BoolType, types.IntType, types.UintType, types.StringType, types.NewTypeParamType("A")
	same := func(id string) []whenOverload { return []whenOverload{over(id, b, a, a)} }
	order := func(ints, uints, texts string) []whenOverload {
		return []whenOverload{over(ints, b, i, i), over(uints, b, u, u), over(texts, b, s, s)}
	}
	arithmetic := func(ints, uints string) []whenOverload {
		return []whenOverload{over(ints, i, i, i), over(uints, u, u, u)}
	}
	inText := func(id string) []whenOverload { return []whenOverload{member(id, b, s, s)} }
	bits := func(id string) []whenOverload {
		return []whenOverload{member(id, b, u, u), member(id+"_list", b, u, types.NewListType(u))}
	}
	const (
		alike   = "two texts, two numbers, or two truth values"
		ordered = "two numbers or two texts"
		numbers = "two numbers"
		truths  = "truth values"
		text    = "a text before the dot, and one in parentheses"
		pattern = "a text before the dot, and a pattern in parentheses"
		mask    = "a number of args or subject before the dot, and bits in parentheses"
	)
	return []whenFunction{
		{operators.LogicalNot, "!", "a truth value", whenNot, 0, []whenOverload{over(overloads.LogicalNot, b, b)}},
		{operators.LogicalAnd, "&&", truths, whenAnd, 0, []whenOverload{over(overloads.LogicalAnd, b, b, b)}},
		{operators.LogicalOr, "||", truths, whenOr, 0, []whenOverload{over(overloads.LogicalOr, b, b, b)}},
		{operators.Conditional, "?:", "a truth value, and two values of one kind", whenIf, 0, []whenOverload{over(overloads.Conditional, a, b, a, a)}},
		{operators.Equals, "==", alike, whenCompare, equal, same(overloads.Equals)},
		{operators.NotEquals, "!=", alike, whenCompare, unequal, same(overloads.NotEquals)},
		{operators.Less, "<", ordered, whenCompare, less, order(overloads.LessInt64, overloads.LessUint64, overloads.LessString)},
		{operators.LessEquals, "<=", ordered, whenCompare, lessEqual, order(overloads.LessEqualsInt64, overloads.LessEqualsUint64, overloads.LessEqualsString)},
		{operators.Greater, ">", ordered, whenCompare, greater, order(overloads.GreaterInt64, overloads.GreaterUint64, overloads.GreaterString)},
		{operators.GreaterEquals, ">=", ordered, whenCompare, greaterEqual, order(overloads.GreaterEqualsInt64, overloads.GreaterEqualsUint64, overloads.GreaterEqualsString)},
		{operators.In, "in", "a number or a text, and a list of such", whenIn, 0, []whenOverload{over(overloads.InList, b, a, types.NewListType(a))}},
		{operators.Add, "+", numbers, whenAdd, 0, arithmetic(overloads.AddInt64, overloads.AddUint64)},
		{operators.Subtract, "-", numbers, whenSubtract, 0, arithmetic(overloads.SubtractInt64, overloads.SubtractUint64)},
		{operators.Multiply, "*", numbers, whenMultiply, 0, arithmetic(overloads.MultiplyInt64, overloads.MultiplyUint64)},
		{operators.Divide, "/", numbers, whenDivide, 0, arithmetic(overloads.DivideInt64, overloads.DivideUint64)},
		{operators.Modulo, "%", numbers, whenModulo, 0, arithmetic(overloads.ModuloInt64, overloads.ModuloUint64)},
		{operators.Negate, "-", "a number with a sign", whenNegate, 0, []whenOverload{over(overloads.NegateInt64, i, i)}},
		{overloads.Size, "size", "a text", whenSize, 0, []whenOverload{over(overloads.SizeString, i, s), member(overloads.SizeStringInst, i, s)}},
		{overloads.StartsWith, "startsWith", text, whenStarts, 0, inText(overloads.StartsWithString)},
		{overloads.EndsWith, "endsWith", text, whenEnds, 0, inText(overloads.EndsWithString)},
		{overloads.Contains, "contains", text, whenContains, 0, inText(overloads.ContainsString)},
		{overloads.Matches, "matches", pattern, whenMatches, 0, inText(overloads.MatchesString)},
		{"hasAll", "hasAll", mask, whenAll, 0, bits("has_all")},
		{"hasAny", "hasAny", mask, whenAny, 0, bits("has_any")},
		{"inNet", "inNet", "args.addr before the dot, and networks in parentheses", whenInNet, 0,
			[]whenOverload{member("in_net", b, addrType, s), member("in_net_list", b, addrType, types.NewListType(s))}},
	}
}

// foreign are functions of CEL that are refused, with what to do instead.
var foreign = map[string]string{
	"int": noConversion, "uint": noConversion, "double": noConversion, "string": noConversion, "bytes": noConversion,
	"bool": noConversion, "dyn": noConversion, "type": noConversion, "timestamp": noTime, "duration": noTime,
	"has": noLists, "all": noLists, "exists": noLists, "exists_one": noLists, "map": noLists, "filter": noLists,
	operators.Index: noLists, operators.OptIndex: noLists, operators.OptSelect: noLists,
	"lowerAscii": whenWithoutTexts, "upperAscii": whenWithoutTexts, "substring": whenWithoutTexts, "replace": whenWithoutTexts, "split": whenWithoutTexts, "trim": whenWithoutTexts, "format": whenWithoutTexts,
	"indexOf": whenWithoutTexts, "charAt": whenWithoutTexts, "join": whenWithoutTexts,
}

const (
	noConversion     = "facts are numbers, texts and truth values, and are not converted"
	noTime           = "no fact is a time"
	noLists          = "there is nothing to index or to go through: join tests with && and ||"
	whenWithoutTexts = `texts are compared as they are; matches can do more, such as path.matches("(?i)\\.exe$") without regard to case`
)

// newWhenLanguage declares the facts and functions. It panics when they contradict each
// other, which is a bug here.
func newWhenLanguage() *whenLanguage {
	l := &whenLanguage{facts: allWhenFacts(), functions: map[string]*whenFunction{}}
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("BUG: declaring the language of when: %v", err))
		}
	}
	var err error
	l.parser, err = celparser.NewParser(celparser.EnablePrattParser(true), celparser.EnableVariadicOperatorASTs(true), celparser.EnableIdentEscapeSyntax(false),
		celparser.MaxRecursionDepth(maxWhenDepth), celparser.ErrorReportingLimit(1), celparser.ErrorRecoveryLimit(1))
	must(err)
	l.env, err = checker.NewEnv(containers.DefaultContainer, types.NewEmptyRegistry())
	must(err)
	for _, f := range l.facts {
		must(l.env.AddIdents(decls.NewVariable(f.name, f.typ)))
	}
	table := whenFunctions()
	for i := range table {
		f := &table[i]
		var opts []decls.FunctionOpt
		for _, o := range f.overloads {
			if o.member {
				opts = append(opts, decls.MemberOverload(o.id, o.args, o.result))
			} else {
				opts = append(opts, decls.Overload(o.id, o.args, o.result))
			}
		}
		d, err := decls.NewFunction(f.name, opts...)
		must(err)
		must(l.env.AddFunctions(d))
		l.functions[f.name] = f
	}
	return l
}

// whenSizes tells the estimate how long texts can be, and what costs here another thing
// than in CEL.
type whenSizes struct{}

// EstimateSize says that a fact that is a text is at most as long as the longest path.
func (whenSizes) EstimateSize(n cost.AstNode) *cost.SizeEstimate {
	if len(n.Path()) == 0 {
		return nil
	}
	s := cost.RangedSizeEstimate(0, abi.PathBytes-1)
	return &s
}

// EstimateCallCost says that matches and size look at each byte of the text once. For matches
// the text counts as long whatever it is, which bounds the number of patterns, too.
func (whenSizes) EstimateCallCost(_, id string, target *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	size := cost.FixedSizeEstimate(abi.PathBytes - 1)
	var text cost.AstNode
	switch id {
	case overloads.MatchesString:
	case overloads.SizeStringInst:
		text = *target
	case overloads.SizeString:
		text = args[0]
	default:
		return nil
	}
	if text != nil && text.ComputedSize() != nil {
		size = *text.ComputedSize()
	}
	return cost.NewCallEstimate(size.MultiplyByCostFactor(cost.StringTraversalCostFactor).Add(cost.FixedCostEstimate(1)), nil)
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"regexp"
	"strings"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// syntax says what is wrong with text that is not CEL. The parser says where, and what it
// did not expect; what people write instead of CEL is recognised by what stands there.
func (r *whenReader) syntax(text string, e *common.Error) *whenError {
	at, ok := r.source.LocationOffset(e.Location)
	if !ok {
		at = 0
	}
	characters := []rune(text)
	at = min(max(at, 0), int32(len(characters)))
	rest := string(characters[at:])
	hint := `an expression is such as subject.uid != 0 && object.path.endsWith(".so")`
	message := strings.TrimPrefix(e.Message, "Syntax error: ")
	word := firstWord.FindString(rest)
	switch {
	case strings.Contains(message, "recursion limit"):
		message, hint = tooDeep, deepHint
	case strings.TrimSpace(text) == "":
		message = "the expression is empty"
	case strings.TrimSpace(rest) == "":
		message = "the expression ends too early"
	case word == "and" || word == "or" || word == "not" || word == "AND" || word == "OR" || word == "NOT":
		hint = "write && for and, || for or, ! for not"
	case strings.HasPrefix(rest, "=~") || word == "like" || word == "LIKE":
		hint = `write object.path.matches("...")`
	case strings.HasPrefix(rest, "=") && !strings.HasPrefix(rest, "=="):
		hint = "write == to compare"
	case strings.HasPrefix(rest, "&") || strings.HasPrefix(rest, "|") || strings.HasPrefix(rest, "^"):
		hint = "bits are tested by args.NAME.hasAll(...) and args.NAME.hasAny(...); && is and, || is or"
	case strings.Contains(message, "int literal"): // of uint, too
		hint = "the largest number is 9223372036854775807, or 18446744073709551615u of those without a sign"
	case octal.MatchString(word):
		hint = `write it in quotes beside a number of args: "0` + word + `"`
	case strings.Contains(message, "string literal"), strings.Contains(message, "unescape"):
		hint = `texts stand in double or single quotes; write \\ for a backslash, or r"..." for a text in which it is itself`
	}
	if strings.ContainsFunc(message, func(c rune) bool { return c < ' ' || c > '~' }) { // it can quote the expression
		message = quote(message)
	}
	return &whenError{int(at) + 1, message, hint}
}

var (
	firstWord = regexp.MustCompile(`^\w+`)
	octal     = regexp.MustCompile(`^o[0-7]+$`)
)

// mistyped says which operator or function was given what it is not for. Names have been
// looked up before, so nothing else can be wrong.
func (r *whenReader) mistyped(checked *ast.AST, e *common.Error) *whenError {
	var found *whenError
	ast.PreOrderVisit(checked.Expr(), ast.NewExprVisitor(func(x ast.Expr) {
		if found != nil || x.ID() != e.ExprID {
			return
		}
		if t := checked.GetType(x.ID()); t.Kind() != types.ErrorKind {
			found = &whenError{r.column(x), "&& and || join tests, and this is " + kindOf(t), "compare it, as in subject.uid == 0"}
			return
		}
		found = &whenError{column: r.column(x)}
		c := x.AsCall()
		f := r.functions[c.FunctionName()]
		args := c.Args()
		if c.IsMemberFunction() {
			args = append([]ast.Expr{c.Target()}, args...)
		}
		var given []string
		for _, a := range args {
			given = append(given, kindOf(checked.GetType(a.ID())))
		}
		found.message = f.written + " is not for " + strings.Join(given, " and ")
		found.hint = "it is for " + f.takes
		switch {
		case strings.Contains(found.message, "a number with a sign") && strings.Contains(found.message, "a number without"):
			found.hint = "numbers of args and subject have no sign, size() has one; compare each with a constant"
		case strings.Contains(found.message, "an address"):
			found.hint = `write args.addr.inNet("192.0.2.0/24")`
		}
	}))
	if found == nil {
		return &whenError{1, "the expression does not fit together: " + quote(e.Message), "compare facts with constants of their kind"}
	}
	return found
}

// kindOf says in words what type a value has.
func kindOf(t *types.Type) string {
	switch {
	case t == nil:
		return "something"
	case t.Kind() == types.BoolKind:
		return "a truth value"
	case t.Kind() == types.IntKind:
		return "a number with a sign"
	case t.Kind() == types.UintKind:
		return "a number without a sign"
	case t.Kind() == types.StringKind:
		return "a text"
	case t.Kind() == types.ListKind:
		return "a list that has " + kindOf(t.Parameters()[0])
	case t.IsExactType(addrType):
		return "an address"
	}
	return "something else"
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// whenSymbols are the operators, with how strongly they bind.
var whenSymbols = [...]struct {
	text  string
	binds int
}{whenIf: {"?", 1}, whenOr: {" || ", 2}, whenAnd: {" && ", 3}, whenCompare: {"", 4}, whenIn: {" in ", 4}, whenAdd: {" + ", 5}, whenSubtract: {" - ", 5},
	whenMultiply: {" * ", 6}, whenDivide: {" / ", 6}, whenModulo: {" % ", 6}, whenNot: {"!", 7}, whenNegate: {"-", 7}}

var relations = [...]string{equal: " == ", unequal: " != ", less: " < ", lessEqual: " <= ", greater: " > ", greaterEqual: " >= "}

var whenCalls = map[whenOp]string{whenStarts: "startsWith", whenEnds: "endsWith", whenContains: "contains", whenMatches: "matches", whenAll: "hasAll", whenAny: "hasAny", whenInNet: "inNet"}

// binds returns how strongly the outermost operator binds; names, constants and calls most.
func (n *whenNode) binds() int {
	if n.op == whenNumber && n.kind == isSigned && int64(n.number) < 0 {
		return whenSymbols[whenNegate].binds
	}
	if int(n.op) < len(whenSymbols) && whenSymbols[n.op].binds > 0 {
		return whenSymbols[n.op].binds
	}
	return 8
}

// String returns the node as CEL, in ASCII: numbers without a sign end in u, and names are
// numbers.
func (n *whenNode) String() string { return whenWriter{}.write(n) }

// whenWriter writes nodes as text.
type whenWriter struct {
	plain bool // as people write it
}

// within writes a node, in parentheses unless it binds stronger than what stands around it.
func (w whenWriter) within(n *whenNode, binds int) string {
	if n.binds() <= binds {
		return "(" + w.write(n) + ")"
	}
	return w.write(n)
}

func (w whenWriter) list(n *whenNode) string {
	var parts []string
	for _, k := range n.list {
		parts = append(parts, w.write(k))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func (w whenWriter) write(n *whenNode) string {
	switch n.op {
	case whenTruth:
		return strconv.FormatBool(n.number == 1)
	case whenNumber:
		return w.number(n)
	case whenText:
		return strconv.QuoteToASCII(string(n.text))
	case whenAccess:
		return "access." + AccessNames(n.access)[0]
	case whenArg:
		return "args." + n.name
	case whenAddr:
		return "args." + addrName
	case whenIf:
		return w.within(n.kids[0], 1) + " ? " + w.within(n.kids[1], 1) + " : " + w.within(n.kids[2], 0)
	case whenAnd, whenOr:
		var parts []string
		for _, k := range n.kids {
			parts = append(parts, w.within(k, n.binds()))
		}
		return strings.Join(parts, whenSymbols[n.op].text)
	case whenNot, whenNegate:
		return whenSymbols[n.op].text + w.within(n.kids[0], 7)
	case whenCompare:
		return w.within(n.kids[0], 4) + relations[n.rel] + w.within(n.kids[1], 4)
	case whenIn:
		return w.within(n.kids[0], 4) + " in " + w.list(n)
	case whenSize:
		return "size(" + w.write(n.kids[0]) + ")"
	case whenStarts, whenEnds, whenContains:
		return w.within(n.kids[0], 7) + "." + whenCalls[n.op] + "(" + w.write(n.kids[1]) + ")"
	case whenMatches:
		return w.within(n.kids[0], 7) + ".matches(" + w.write(n.list[0]) + ")"
	case whenAll, whenAny, whenInNet:
		return w.within(n.kids[0], 7) + "." + whenCalls[n.op] + "(" + w.list(n) + ")"
	case whenAdd, whenSubtract, whenMultiply, whenDivide, whenModulo:
		return w.within(n.kids[0], n.binds()-1) + whenSymbols[n.op].text + w.within(n.kids[1], n.binds())
	}
	for i := range whenFacts {
		if whenFacts[i].op == n.op {
			return whenFacts[i].name
		}
	}
	panic(fmt.Sprintf("BUG: no text for the operator %d", n.op))
}

func (w whenWriter) number(n *whenNode) string {
	switch {
	case n.kind == isSigned:
		return strconv.FormatInt(int64(n.number), 10)
	case !w.plain:
		return strconv.FormatUint(n.number, 10) + "u"
	case len(n.text) > 0:
		return strconv.QuoteToASCII(string(n.text))
	}
	return strconv.FormatUint(n.number, 10)
}

// explain says in one line why the expression does not hold for a request, or what it holds
// for: the part that decides, and the facts in it. Bytes of the request are quoted in it.
func (w *when) explain(r *abi.Request) string {
	n := w.root.blame(r)
	var facts []string
	what := " is true"
	switch n.state(r) {
	case no:
		what = " is false"
	case fault:
		what = " has no value"
		facts = append(facts, n.unknown(r))
	}
	if len(n.kids) > 0 { // a fact says its value itself
		n.tell(r, &facts)
	}
	what = clip(whenWriter{plain: true}.write(n)) + what
	if len(facts) == 0 {
		return what
	}
	return what + ": " + shorten(facts)
}

// clip bounds an expression for messages.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return text[:most] + "..."
	}
	return text
}

// state returns whether a node has a value, and for a test which.
func (n *whenNode) state(r *abi.Request) truth {
	ok := true
	switch n.kind {
	case isTruth:
		return n.truth(r)
	case isText:
		_, ok = n.bytes(r)
	case isSigned, isUnsigned:
		_, ok = n.value(r)
	}
	if ok {
		return yes
	}
	return fault
}

// blame returns the smallest part that alone decides the value of the node.
func (n *whenNode) blame(r *abi.Request) *whenNode {
	state := n.state(r)
	if n.op == whenIf {
		if branch := n.branch(r); branch != nil {
			return branch.blame(r)
		}
	}
	decides := state == fault || n.op == whenAnd && state == no || n.op == whenOr && state == yes
	for _, k := range n.kids {
		if decides && k.state(r) == state {
			return k.blame(r)
		}
	}
	return n
}

// unknown says why a node whose parts all have values has none.
func (n *whenNode) unknown(r *abi.Request) string {
	switch n.op {
	case whenPath:
		return notKnown(condPath, r)
	case whenDetail:
		return notKnown(condDetail, r)
	case whenExe:
		return notKnown(condExe, r)
	case whenOwner, whenGroup:
		return "it is not known, or there is no file"
	case whenFileSize:
		return "it is not known, or there is no regular file"
	case whenDivide, whenModulo:
		return "it divides by 0"
	case whenArg, whenEvent:
		return "the event is another one"
	}
	return "the result does not fit"
}

// tell lists the facts in a node with their values, each once.
func (n *whenNode) tell(r *abi.Request, facts *[]string) {
	var value string
	switch n.op {
	case whenEvent, whenPath, whenDetail, whenExe:
		text, _ := n.bytes(r)
		value = quote(string(text))
	case whenUID, whenEUID, whenGID, whenEGID, whenOwner, whenGroup, whenFileSize:
		if v, known := n.value(r); known {
			value = strconv.FormatUint(v, 10)
		}
	case whenArg:
		v, _ := n.value(r)
		value = ArgText(r.Event, n.name, v)
	case whenAccess:
		value = strconv.FormatBool(r.Access&n.access != 0)
	case whenAddr:
		value, _ = new(addrMatch).words(r)
		value = strings.TrimPrefix(value, n.String()+" ")
	}
	if value != "" {
		if s := n.String() + " is " + value; !slices.Contains(*facts, s) {
			*facts = append(*facts, s)
		}
	}
	for _, k := range n.kids {
		k.tell(r, facts)
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"unicode/utf8"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Limits of an expression. They bound what reading it costs, and with whenCost what
// evaluating it can, whatever the request has.
const (
	// maxWhenBytes is the longest expression.
	maxWhenBytes = 4096
	// maxWhenDepth is how deep operators, calls and parentheses can be nested.
	maxWhenDepth = 32
	// maxWhens is how many different expressions a file may have: they are compiled while
	// the push waits, 0.2 ms for a large one, and tried one after another.
	maxWhens = 1000
	// maxWhenCost is the highest cost, in the units of cel-go's estimate: about one for each
	// operator, and one for each ten bytes of a text that are looked at. The longest
	// paths are assumed; on those it is about 50 us, see BenchmarkWhenLongest.
	maxWhenCost = 2500
)

// when is a checked and compiled expression. It is immutable and safe for concurrent use.
type when struct {
	root   *whenNode
	fields abi.Fields
	events eventSet
	cost   uint64 // at most, see maxWhenCost
}

// whenError says what is wrong with an expression.
type whenError struct {
	// column is where, from 1, in characters of the whole expression, its line ends counted as
	// one each.
	column  int
	message string
	hint    string // what to write instead
}

func (e *whenError) Error() string {
	return fmt.Sprintf("column %d: %s; %s", e.column, e.message, e.hint)
}

// whenCompiler compiles the expressions of one file; it is not for concurrent use.
type whenCompiler struct {
	language *whenLanguage
	known    map[whenKey]*when // equal expressions are one
}

type whenKey struct {
	text   string
	events eventSet
}

func newWhenCompiler() *whenCompiler {
	return &whenCompiler{language: newWhenLanguage(), known: map[whenKey]*when{}}
}

// compile parses, checks and bounds an expression for rules about these events.
func (c *whenCompiler) compile(text string, events eventSet) (*when, *whenError) {
	key := whenKey{text, events}
	if w := c.known[key]; w != nil {
		return w, nil
	}
	switch {
	case events == 0:
		return nil, &whenError{1, "the rule is about no event", "write events: [...]"}
	case len(c.known) >= maxWhens:
		return nil, &whenError{1, fmt.Sprintf("the file has more than %d different expressions", maxWhens), "say with object, args and subject what they can say"}
	case len(text) > maxWhenBytes:
		return nil, &whenError{1, fmt.Sprintf("the expression has %d bytes, at most %d are read", len(text), maxWhenBytes), "split the rule, or list paths in object.path"}
	case !utf8.ValidString(text):
		return nil, &whenError{1, "the expression is not UTF-8", "write other bytes as a pattern of object.path, with !!binary"}
	}
	root, cost, err := c.language.read(text, events)
	if err != nil {
		return nil, err
	}
	w := &when{root: root, fields: root.consulted(), events: events, cost: cost}
	if w.fields == 0 && !root.asksEvent() {
		return nil, &whenError{1, "the expression looks at no fact, so it is always the same", "compare a fact, such as subject.uid != 0, or leave it out"}
	}
	c.known[key] = w
	return w, nil
}

// holds reports whether the expression is true for a request. One that has no value, for a
// fact is not known or a number does not fit, does not hold. It allocates nothing.
func (w *when) holds(r *abi.Request) bool { return w.root.truth(r) == yes }

// consulted returns the facts that holds looks at.
func (w *when) consulted() abi.Fields { return w.fields }

// args returns which of Request.Arg holds looks at for an event: bit i is Arg[i].
func (w *when) args(e abi.Event) uint8 {
	if !w.events.has(e) {
		return 0
	}
	return w.root.args(e)
}

// String returns the expression as CEL that says what was understood: names as numbers, no
// comments. Two expressions with the same text are the same.
func (w *when) String() string { return w.root.String() }

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// fileWhens compiles the expressions of a file, whose parts are read side by side.
type fileWhens struct {
	mu       sync.Mutex
	compiler *whenCompiler // nil until there is one to compile
}

func (f *fileWhens) compile(text string, events eventSet) (*when, *whenError) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.compiler == nil {
		f.compiler = newWhenCompiler()
	}
	return f.compiler.compile(text, events)
}

// when reads an expression of a rule about these events; nil when there is a problem.
func (p *parser) when(n *yaml.Node, events eventSet) *when {
	text, ok := p.text(n, "when", "write an expression such as 'subject.uid != subject.euid'")
	if !ok {
		return nil
	}
	w, err := p.whens.compile(text, events)
	if err == nil {
		return w
	}
	at, where := pos{n.Line, n.Column}, ""
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 || strings.ContainsAny(text, "\n'"):
		where = fmt.Sprintf(", at character %d", err.column)
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		at.column += err.column
	default:
		at.column += err.column - 1
	}
	p.addAt(at, err.hint, "when%s: %s", where, err.message)
	return nil
}

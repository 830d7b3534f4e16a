// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// simple reads the YAML that large rule files are written in, some ten times as fast as a reader of
// all of it: ASCII, block mappings and sequences, flow ones that end on their line, plain and
// quoted scalars of one line without escapes, comments. It takes nothing for what it is not: of
// whatever else there is, it returns nil, and the reader of all of YAML has to be asked.
//
// Nodes are good until the next read; their texts stay, those of values by themselves, those of keys
// with all of what was read.
type simple struct {
	src    string
	at     int // what is read next
	line   int // of at, from 1
	begin  int // of that line, in src
	indent int // of the line that is read next, -1 at the end
	depth  int
	nodes  []yaml.Node
	kids   []*yaml.Node
	stack  []*yaml.Node // children of nodes that are not complete
}

// simpleDepth is how deep nodes are nested; rules need a third of it.
const simpleDepth = 32

// read returns the block sequence that src is, of which the first line has that number. Nodes have no
// comments, and a tag only where that spares the library to try what else their text could be.
func (s *simple) read(src string, line int) *yaml.Node {
	clear(s.nodes)
	clear(s.kids)
	*s = simple{src: src, line: line, nodes: s.nodes[:0], kids: s.kids[:0], stack: s.stack[:0]}
	if s.toContent(); s.indent < 0 || !s.isItem() {
		return nil
	}
	if n := s.sequence(); n != nil && s.indent < 0 {
		return n
	}
	return nil
}

// peek returns the byte that is read next; at the end a break.
func (s *simple) peek() byte { return s.ahead(0) }

func (s *simple) ahead(n int) byte {
	if s.at+n < len(s.src) {
		return s.src[s.at+n]
	}
	return '\n'
}

func (s *simple) skipSpaces() {
	for s.at < len(s.src) && s.src[s.at] == ' ' {
		s.at++
	}
}

func (s *simple) isItem() bool {
	return s.peek() == '-' && (s.ahead(1) == ' ' || s.ahead(1) == '\n')
}

// endLine goes from behind a value to the next line with one. False: there is something else behind it.
func (s *simple) endLine() bool {
	before := s.at
	s.skipSpaces()
	if s.peek() == '#' && s.at > before {
		s.skipComment()
	}
	if s.peek() != '\n' {
		return false
	}
	s.nextLine()
	s.toContent()
	return true
}

func (s *simple) skipComment() {
	for s.peek() != '\n' {
		s.at++
	}
}

// nextLine goes behind the break that is read next.
func (s *simple) nextLine() {
	s.at++
	s.line++
	s.begin = s.at
}

// toContent goes from the beginning of a line to the next that has more than a comment, and sets indent.
func (s *simple) toContent() {
	for s.at < len(s.src) {
		s.skipSpaces()
		if s.peek() == '#' {
			s.skipComment()
		}
		if s.peek() != '\n' {
			s.indent = s.at - s.begin
			return
		}
		s.nextLine()
	}
	s.indent = -1
}

// node returns a new node at what is read next.
func (s *simple) node(kind yaml.Kind, style yaml.Style) *yaml.Node {
	if len(s.nodes) == cap(s.nodes) {
		s.nodes = make([]yaml.Node, 0, max(256, 2*cap(s.nodes)))
	}
	s.nodes = s.nodes[:len(s.nodes)+1]
	n := &s.nodes[len(s.nodes)-1]
	n.Kind, n.Style, n.Line, n.Column = kind, style, s.line, s.at-s.begin+1
	return n
}

// push makes n a child of the innermost node that is not complete. False: n is nil.
func (s *simple) push(n *yaml.Node) bool {
	s.stack = append(s.stack, n)
	return n != nil
}

// complete gives n its children: all from base on.
func (s *simple) complete(n *yaml.Node, base int) *yaml.Node {
	of := s.stack[base:]
	if cap(s.kids)-len(s.kids) < len(of) {
		s.kids = make([]*yaml.Node, 0, max(256, 2*cap(s.kids), len(of)))
	}
	from := len(s.kids)
	s.kids = append(s.kids, of...)
	n.Content = s.kids[from:len(s.kids):len(s.kids)]
	s.stack = s.stack[:base]
	s.depth--
	return n
}

// sequence reads a block sequence, of which the first dash is read next.
func (s *simple) sequence() *yaml.Node {
	n, base, indent := s.node(yaml.SequenceNode, 0), len(s.stack), s.indent
	if s.depth++; s.depth > simpleDepth {
		return nil
	}
	for s.indent == indent && s.isItem() {
		s.at++
		if !s.push(s.value(indent, true)) || s.indent > indent {
			return nil
		}
	}
	return s.complete(n, base)
}

// mapping reads a block mapping, of which the first key is read next.
func (s *simple) mapping(indent int) *yaml.Node {
	n, base := s.node(yaml.MappingNode, 0), len(s.stack)
	if s.depth++; s.depth > simpleDepth {
		return nil
	}
	for more := true; more; more = s.indent == indent {
		if !s.push(s.key()) || !s.push(s.value(indent, false)) || s.indent > indent {
			return nil
		}
	}
	return s.complete(n, base)
}

// value reads what is behind a dash or a colon, and goes to the next line with something. indent is that
// of the sequence or mapping.
func (s *simple) value(indent int, item bool) *yaml.Node {
	from := s.at
	s.skipSpaces()
	var n *yaml.Node
	switch s.peek() {
	case '\n', '#':
		if s.at = from; !s.endLine() {
			return nil
		}
		switch {
		case s.indent > indent && s.isItem(), s.indent == indent && !item && s.isItem():
			return s.sequence()
		case s.indent > indent:
			return s.mapping(s.indent)
		}
		return nil
	case '[', '{', '"', '\'':
		n = s.flow()
	default:
		from = s.at
		if n = s.plain(false); n != nil && s.peek() == ':' {
			if !item {
				return nil
			}
			s.nodes = s.nodes[:len(s.nodes)-1]
			s.nodes[:cap(s.nodes)][len(s.nodes)] = yaml.Node{}
			s.at = from
			return s.mapping(from - s.begin)
		}
	}
	if n == nil || !s.endLine() {
		return nil
	}
	return n
}

// flow reads a value that ends on its line: a flow collection or a scalar.
func (s *simple) flow() *yaml.Node {
	switch c := s.peek(); c {
	case '[', '{':
		return s.collection(c == '{')
	case '"':
		return s.quoted(c, yaml.DoubleQuotedStyle)
	case '\'':
		return s.quoted(c, yaml.SingleQuotedStyle)
	}
	return s.plain(true)
}

// collection reads a flow mapping or sequence.
func (s *simple) collection(mapping bool) *yaml.Node {
	kind, end := yaml.SequenceNode, byte(']')
	if mapping {
		kind, end = yaml.MappingNode, '}'
	}
	n, base := s.node(kind, yaml.FlowStyle), len(s.stack)
	if s.depth++; s.depth > simpleDepth {
		return nil
	}
	s.at++
	s.skipSpaces()
	for first := true; first && s.peek() != end || !first; first = false {
		if mapping {
			if !s.push(s.key()) || s.peek() != ' ' {
				return nil
			}
			s.skipSpaces()
		}
		if !s.push(s.flow()) {
			return nil
		}
		s.skipSpaces()
		if s.peek() == end {
			break
		}
		if s.peek() != ',' {
			return nil
		}
		s.at++
		s.skipSpaces()
	}
	s.at++
	return s.complete(n, base)
}

// key reads a name and the colon behind it.
func (s *simple) key() *yaml.Node {
	n, from := s.node(yaml.ScalarNode, 0), s.at
	for c := s.peek(); c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'; c = s.peek() {
		s.at++
	}
	const longest = 128 // bytes, of 1,024 that one may have
	if n.Value = s.src[from:s.at]; n.Value == "" || len(n.Value) > longest || s.peek() != ':' || s.ahead(1) != ' ' && s.ahead(1) != '\n' {
		return nil
	}
	s.at++
	return n
}

// quoted reads a scalar in quotes, with nothing in it that means something else.
func (s *simple) quoted(quote byte, style yaml.Style) *yaml.Node {
	n := s.node(yaml.ScalarNode, style)
	s.at++
	from := s.at
	for s.peek() != quote {
		if c := s.peek(); c < ' ' || c > '~' || c == '\\' {
			return nil
		}
		s.at++
	}
	n.Value = strings.Clone(s.src[from:s.at])
	s.at++
	if s.peek() == quote {
		return nil
	}
	return n
}

// plain reads a scalar without quotes, up to a break, a comment, the colon of a key, and in a flow collection
// what separates its entries.
func (s *simple) plain(flow bool) *yaml.Node {
	if c := s.peek(); plainBytes[c] != plainStart {
		return nil
	}
	n, from, end := s.node(yaml.ScalarNode, 0), s.at, s.at+1 // end of what is no space
scan:
	for {
		s.at++
		c := s.peek()
		switch plainBytes[c] {
		case plainStart, plainRest:
		case plainFlow:
			if flow {
				break scan
			}
		case plainMark: // a colon or a number sign
			if c == ':' && (s.ahead(1) == ' ' || s.ahead(1) == '\n') || c == '#' && end < s.at {
				break scan
			}
			if c == ':' && flow && plainBytes[s.ahead(1)] != plainStart && s.ahead(1) != ':' {
				return nil
			}
		case plainSpace:
			continue
		default:
			if c == '\n' {
				break scan
			}
			return nil
		}
		end = s.at + 1
	}
	n.Value = strings.Clone(s.src[from:end])
	n.Tag = plainTag(n.Value)
	if flow && s.peek() == '?' {
		return nil
	}
	s.at = end
	return n
}

// plainTag returns the tag of a plain scalar: that of a text or a number where this is easy to see, else none.
func plainTag(text string) string {
	c := text[0]
	// What is no text begins with one of these letters, if with any, and the longest is "false".
	if c == '/' || c > '9' && (len(text) > len("false") || strings.IndexByte("yYnNtTfFoO", c) < 0) {
		return "!!str"
	}
	digits, dash := 0, 0
	for i := range len(text) {
		switch {
		case text[i] >= '0' && text[i] <= '9':
			digits++
		case text[i] == '-' && i > 0 && i < len(text)-1:
			dash++
		default:
			return ""
		}
	}
	switch {
	case dash == 1: // a range; a date has two
		return "!!str"
	case dash == 0 && digits < 19 && (c != '0' || digits == 1):
		return "!!int"
	}
	return ""
}

// What a byte is to a plain scalar.
const (
	plainNever = iota // whatever it may mean, or not ASCII
	plainStart        // it can begin with it
	plainRest
	plainSpace
	plainMark // depends on the next
	plainFlow // ends it in a flow collection
)

var plainBytes = func() (of [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '/', c == '_', c == '.':
			of[c] = plainStart
		default:
			of[c] = plainRest
		}
	}
	for _, c := range ",?[]{}" {
		of[c] = plainFlow
	}
	of[':'], of['#'], of[' '] = plainMark, plainMark, plainSpace
	return of
}()

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Parse reads and checks a rule file. name is for messages only. The error, if
// any, is a Problems that holds everything that is wrong with the file; text
// that is not YAML has one problem. src is copied.
func Parse(name string, src []byte) (*File, error) {
	return parseWith(current, name, src)
}

// version is what a version of the format knows and bounds.
type version struct {
	fileBytes, rulesMax int
	// A file is read in parts from so many bytes on, and a part is about so long; see
	// parseParts.
	partsFrom, partBytes int
}

var current = version{MaxFileBytes, MaxRules, 64 << 10, 64 << 10}

func parseWith(v version, name string, src []byte) (*File, error) {
	if len(src) >= v.partsFrom && len(src) <= v.fileBytes {
		if f := parseParts(v, name, src); f != nil {
			return f, nil
		}
	}
	p := newParser(v, name)
	f := &File{settings: settings{name: name}}
	if root := p.document(src); root != nil {
		f.source = string(src)
		p.readFile(root, f)
	}
	if err := p.problems.finish(); err != nil {
		return nil, err
	}
	return f, nil
}

// parser collects problems while it walks the nodes of one file.
type parser struct {
	version
	file     string
	problems Problems
	rule     string         // id of the rule that is being read
	ids      map[string]int // line of each rule id
	whens    *fileWhens
	sets     map[string]*valueSet
	nodes    lists[*yaml.Node]
	found    lists[field]
	rare     rare  // of the block that is being read
	noRare   *rare // of all blocks that have none of its conditions; nobody writes to it
}

func newParser(v version, file string) *parser {
	return &parser{file: file, version: v, ids: map[string]int{}, whens: &fileWhens{}, sets: map[string]*valueSet{}, noRare: new(rare)}
}

func (p *parser) add(n *yaml.Node, hint, format string, args ...any) {
	p.addAt(pos{n.Line, n.Column}, hint, format, args...)
}

func (p *parser) addAt(at pos, hint, format string, args ...any) {
	p.problems = append(p.problems, Problem{File: p.file, Line: at.line, Column: at.column, Rule: p.rule,
		Message: fmt.Sprintf(format, args...), Hint: hint})
}

// document returns the root node of the only document in src, nil when there is
// a problem that makes reading on useless.
func (p *parser) document(src []byte) *yaml.Node {
	if len(src) > p.fileBytes {
		p.addAt(pos{1, 1}, "split it, or match many paths by a prefix or a glob", "the file has more than %d bytes", p.fileBytes)
		return nil
	}
	if at, bad := firstBadByte(src); bad != "" {
		p.addAt(at, "write such a path as !!binary with base64, or a control character as \"\\n\" or \"\\x01\" in double quotes", "%s", bad)
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(src))
	var doc, second yaml.Node
	err := decode(d, &doc)
	if errors.Is(err, io.EOF) || err == nil && doc.Content[0].ShortTag() == "!!null" {
		p.addAt(pos{1, 1}, "write at least version, default and scope", "the file is empty")
		return nil
	}
	if err == nil {
		err = decode(d, &second)
		switch {
		case err == nil:
			p.addAt(pos{max(second.Line, 1), max(second.Column, 1)}, "put every rule set in a file of its own", "the file has more than one YAML document")
			return nil
		case errors.Is(err, io.EOF):
			err = nil
		}
	}
	if err != nil {
		p.malformed(src, err)
		return nil
	}
	p.refuseAnchors(doc.Content[0])
	return doc.Content[0]
}

// firstBadByte finds what YAML cannot hold, which its reader reports without a
// position.
func firstBadByte(src []byte) (pos, string) {
	at := pos{1, 1}
	for i := 0; i < len(src); {
		if c := src[i]; c >= ' ' && c < 0x7f {
			at.column++
			i++
			continue
		}
		r, n := utf8.DecodeRune(src[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			return at, fmt.Sprintf("the byte 0x%02x is not UTF-8", src[i])
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0 && r != 0x85, r == 0xfffe, r == 0xffff:
			return at, fmt.Sprintf("the control character 0x%02x cannot stand in a rule file", r)
		case r == '\n':
			at = pos{at.line + 1, 0}
		}
		at.column++
		i += n
	}
	return pos{}, ""
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(?s)(.*)$`)

// malformed reports the one problem of a text that is not YAML. The library
// names the line where the construct began that it could not finish, or none;
// the line that a reader must look at is the first whose addition breaks the
// text.
func (p *parser) malformed(src []byte, err error) {
	line, what := 1, err.Error()
	if m := yamlLine.FindStringSubmatch(what); m != nil {
		what = m[2]
		if n, err := strconv.Atoi(m[1]); err == nil {
			line = n
		}
	}
	const searched = 256 << 10 // bytes; a dozen parses of more would be felt
	if len(src) <= searched {
		line = breakingLine(src)
	}
	text := ""
	if lines := bytes.Split(src, []byte("\n")); line <= len(lines) {
		text = string(lines[line-1])
	}
	blank := len(text) - len(strings.TrimLeft(text, " \t"))
	hint := "check the indentation and the quotes here and on the line before; a pattern with ? [ ] { or } goes in quotes"
	switch {
	case strings.Contains(text[:blank], "\t"):
		hint = "indent with spaces, not with tabs"
		blank = strings.IndexByte(text, '\t')
	case strings.Contains(what, "unknown anchor"):
		hint = `write the value out; a text that begins with * goes in quotes: "*.so"`
	case strings.Contains(what, "alias") || strings.Contains(what, "alphabetic"):
		hint = `a text that begins with * or & goes in quotes`
	}
	p.addAt(pos{line, utf8.RuneCountInString(text[:blank]) + 1}, hint, "not YAML: %s", what)
}

// breakingLine returns the first line, from 1, after which src is no longer
// YAML and stays so: the lines before it are.
func breakingLine(src []byte) int {
	var ends []int // offset behind each line
	for i, c := range src {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	ends = append(ends, len(src))
	good := func(lines int) bool {
		if lines == 0 {
			return true
		}
		d := yaml.NewDecoder(bytes.NewReader(src[:ends[lines-1]]))
		for {
			var n yaml.Node
			if err := decode(d, &n); err != nil {
				return errors.Is(err, io.EOF)
			}
		}
	}
	lo, hi := 0, len(ends) // lo lines are good, hi lines are not
	for range 8 {
		for hi-lo > 1 {
			if mid := (lo + hi) / 2; good(mid) {
				lo = mid
			} else {
				hi = mid
			}
		}
		// A cut inside a text of several lines is bad without being wrong: the
		// search goes on behind it.
		const longest = 16 // lines
		next := hi + 1
		for next <= min(hi+longest, len(ends)-1) && !good(next) {
			next++
		}
		if next > min(hi+longest, len(ends)-1) {
			break
		}
		lo, hi = next, len(ends)
	}
	return hi
}

// decode is d.Decode for a library that runs on what others send: should it
// panic, that is a text it cannot read and no end of the daemon.
func decode(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	return d.Decode(n)
}

// refuseAnchors reports anchors and aliases everywhere below n: a file that can
// multiply itself cannot be bounded, and rules are read by people.
func (p *parser) refuseAnchors(n *yaml.Node) {
	if n.Anchor != "" {
		p.add(n, "remove it and write the value out where it is used", "the YAML anchor &%s is not supported", n.Anchor)
	}
	if n.Kind == yaml.AliasNode {
		p.add(n, "write the value out", "the YAML alias *%s is not supported", n.Value)
		return
	}
	for _, c := range n.Content {
		p.refuseAnchors(c)
	}
}

// kind names what a node is, for messages.
func kind(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	if n.ShortTag() == "!!null" {
		return "nothing"
	}
	return quote(n.Value)
}

// fields are the values of a mapping by field, of which there are few.
type fields []field

type field struct {
	name  string
	line  int // of its name
	value *yaml.Node
}

// get returns the value of a field, nil when it is not there.
func (f fields) get(name string) *yaml.Node {
	for i := range f {
		if f[i].name == name {
			return f[i].value
		}
	}
	return nil
}

// mapping returns the values of a mapping by field. Duplicate and unknown
// fields are reported. The result is nil when n is no mapping.
func (p *parser) mapping(n *yaml.Node, what string, known ...string) fields {
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		if n.Kind != yaml.AliasNode {
			p.add(n, "its fields are "+strings.Join(known, ", "), "%s must be a mapping, not %s", what, kind(n))
		}
		return nil
	}
	out := fields{}
	if n := min(len(n.Content)/2, len(known)); n > 0 { // else it is empty, and not nil: it is a mapping
		out = p.found.room(n)
	}
	var strange map[string]int // unknown fields, by the line of the first
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			p.add(k, "its fields are "+strings.Join(known, ", "), "a field of %s cannot be %s", what, kind(k))
			continue
		}
		line, dup := strange[k.Value]
		if i := slices.IndexFunc(out, func(f field) bool { return f.name == k.Value }); i >= 0 {
			line, dup = out[i].line, true
		}
		switch {
		case dup:
			p.add(k, "keep one of them", "duplicate field %s in %s, the first is on line %d", bare(k.Value), what, line)
		case !slices.Contains(known, k.Value):
			if strange == nil {
				strange = map[string]int{}
			}
			strange[k.Value] = k.Line
			hint := "its fields are " + strings.Join(known, ", ")
			if s := suggest(k.Value, known); s != "" {
				hint = "did you mean " + s + "? " + hint
			}
			p.add(k, hint, "unknown field %s in %s", bare(k.Value), what)
		default:
			out = append(out, field{k.Value, k.Line, v})
		}
	}
	return out
}

// list returns the entries of a list; a single value is a list of one. An empty
// list is reported.
func (p *parser) list(n *yaml.Node, what string) []*yaml.Node {
	return p.listHint(n, what, "")
}

// listHint is list with what to write instead of an empty list; empty: leave it out.
func (p *parser) listHint(n *yaml.Node, what, hint string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		return p.nodes.copy(n)
	}
	if len(n.Content) == 0 {
		if hint == "" {
			hint = "name at least one, or leave " + what + " out"
		}
		p.add(n, hint, "%s is an empty list", what)
	}
	return n.Content
}

// text returns a scalar's text as it is written, so 1.0 stays "1.0".
func (p *parser) text(n *yaml.Node, what, hint string) (string, bool) {
	if n.Kind == yaml.AliasNode { // already reported
		return "", false
	}
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
			return n.Value, true
		case "!!binary":
			p.add(n, "!!binary is for paths only", "%s cannot be !!binary", what)
			return "", false
		case "!!null":
			p.add(n, hint, "%s is empty", what)
			return "", false
		}
		p.add(n, "remove the tag", "%s has the YAML tag %s, which is not supported", what, bare(n.Tag))
		return "", false
	}
	p.add(n, hint, "%s must be a text, not %s", what, kind(n))
	return "", false
}

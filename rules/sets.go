// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// SetInfo says what a rule file has in one of its sets.
type SetInfo struct {
	Name   string
	Values int
	Line   int // of its name
}

// Sets returns the sets of the file, in its order. They must not be modified.
func (rs *RuleSet) Sets() []SetInfo { return rs.setInfos }

// valueSet is a list of values with a name. What they are is said by the keys that name it, so
// they are read by the first rule that does, and once for each kind of value.
type valueSet struct {
	name   string
	nodes  []*yaml.Node
	mu     sync.Mutex  // parts of a file are read side by side
	values map[any]any // by how they were read
}

// readSets reads the sets of a file.
func (p *parser) readSets(n *yaml.Node, f *File) {
	const hint = "write each as a name with a list of values, such as sets: {office: [192.0.2.0/24]}"
	if n.Kind != yaml.MappingNode || n.ShortTag() != "!!map" {
		p.add(n, hint, "sets must be a mapping of names to lists, not %s", kind(n))
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode || !validID(k.Value):
			p.add(k, "write up to 64 of a-z 0-9 . _ - beginning with a letter or digit", "the name of a set cannot be %s", kind(k))
			continue
		case p.sets[k.Value] != nil:
			p.add(k, "keep one of them", "the set %s is there twice", k.Value)
			continue
		case v.Kind != yaml.SequenceNode:
			p.add(v, hint, "the set %s must be a list, not %s", k.Value, kind(v))
			continue
		case len(v.Content) == 0:
			p.add(v, "name at least one value, or take the set out, and the rules that name it", "the set %s is empty", k.Value)
			continue
		}
		p.sets[k.Value] = &valueSet{name: k.Value, nodes: v.Content, values: map[any]any{}}
		f.setInfos = append(f.setInfos, SetInfo{k.Value, len(v.Content), k.Line})
	}
}

// setOf returns the set that a value names, nil when it is a value by itself. texts: the value
// may be a text that begins with @. ok is false when it names a set that is not there.
func (p *parser) setOf(n *yaml.Node, texts bool) (s *valueSet, ok bool) {
	name, at := strings.CutPrefix(n.Value, "@")
	if n.Kind != yaml.ScalarNode || !at || n.ShortTag() == "!!binary" {
		return nil, true
	}
	if s = p.sets[name]; s != nil || texts {
		return s, true
	}
	var known []string
	for name := range p.sets {
		known = append(known, name)
	}
	hint := "add it to the sets of the file, or write the values here"
	if near := suggest(name, known); near != "" {
		hint = "did you mean @" + near + "? " + hint
	}
	p.add(n, hint, "there is no set %s", bare(name))
	return nil, false
}

// values reads a value, or a list of values and names of sets. texts is as for setOf, as tells
// apart what read makes of the same values. A set that stands alone gives the same slice to all who name it.
func values[T any](p *parser, n *yaml.Node, what string, as any, texts bool, read func(*yaml.Node) (T, bool)) (out []T) {
	nodes := p.list(n, what)
	for _, e := range nodes {
		s, ok := p.setOf(e, texts)
		switch {
		case !ok:
		case s != nil && len(nodes) == 1:
			return valuesOf(s, as, read)
		case s != nil:
			out = append(out, valuesOf(s, as, read)...)
		default:
			if v, ok := read(e); ok {
				out = append(out, v)
			}
		}
	}
	return out
}

func valuesOf[T any](s *valueSet, as any, read func(*yaml.Node) (T, bool)) []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.values[as]; ok {
		return known.([]T)
	}
	out := make([]T, 0, len(s.nodes))
	for _, e := range s.nodes {
		if v, ok := read(e); ok {
			out = append(out, v)
		}
	}
	s.values[as] = out
	return out
}

// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// traceePolicy is a policy in either of the two forms that Tracee reads, whose rules hold within
// its scope.
type traceePolicy struct {
	*importer
	file  string
	scope []traceeFilter
}

func (im *importer) tracee(sources []Source) {
	for _, s := range sources {
		d := yaml.NewDecoder(bytes.NewReader(s.Text))
		seen := false
		for {
			var doc yaml.Node
			err := decodeYAML(d, &doc)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				line, what := 1, strings.TrimPrefix(err.Error(), "yaml: ")
				// The line is a part of the text alone.
				_, _ = fmt.Sscanf(what, "line %d:", &line)
				im.problem(s.Name, max(line, 1), 1, "check the indentation and the quotes here and on the line before", "not YAML: %s", bare(what))
				break
			}
			seen = true
			if n := doc.Content[0]; n.ShortTag() != "!!null" && im.noAliases(s.Name, n) {
				(&traceePolicy{importer: im, file: s.Name}).read(n)
			}
		}
		if !seen && len(im.problems) == 0 {
			im.problem(s.Name, 1, 1, "write a policy: kind: Policy, or type: policy", "the file is empty")
		}
	}
	im.findOverlapping()
}

// decodeYAML is d.Decode for texts of strangers: a panic of the library is a text that it cannot read.
func decodeYAML(d *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("yaml: %v", v)
		}
	}()
	return d.Decode(n)
}

// noAliases reports anchors and aliases: a text that can multiply itself cannot be bounded.
func (im *importer) noAliases(file string, n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		im.problem(file, n.Line, n.Column, "write the value out where it is used", "YAML anchors and aliases are not read")
		return false
	}
	for _, c := range n.Content {
		if !im.noAliases(file, c) {
			return false
		}
	}
	return true
}

// bad reports a problem at a node.
func (p *traceePolicy) bad(n *yaml.Node, hint, message string, args ...any) {
	p.problem(p.file, max(n.Line, 1), max(n.Column, 1), hint, message, args...)
}

// fields returns the values of a mapping; the keys that are neither known nor without influence are
// found to be lost.
func (p *traceePolicy) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		p.bad(n, "its keys are "+strings.Join(known, ", "), "%s is no mapping", what)
		return nil
	}
	out := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case out[k.Value] != nil:
			p.bad(k, "keep one of them", "the key %s is there twice", quote(k.Value))
		case !slices.Contains(known, k.Value):
			p.find(Lost, place{p.file, k.Line}, "", "%s: %s has no such key that is known here", bare(k.Value), what)
		}
		out[k.Value] = v
	}
	return out
}

// texts returns the entries of a list of texts.
func (p *traceePolicy) texts(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.bad(n, "write a list: - ...", "%s is no list", what)
		return nil
	}
	for _, e := range n.Content {
		if e.Kind != yaml.ScalarNode {
			p.bad(e, "write a text", "%s has an entry that is no text", what)
			return nil
		}
	}
	return n.Content
}

// read reads one policy.
func (p *traceePolicy) read(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		p.bad(n, "write a policy: kind: Policy, or type: policy", "the document is no mapping")
		return
	}
	var spec map[string]*yaml.Node
	if kind := member(n, "kind"); kind != nil {
		if kind.Value != "Policy" && kind.Value != "TraceePolicy" {
			p.bad(kind, "write kind: Policy", "the kind %s is no policy of Tracee", quote(kind.Value))
			return
		}
		top := p.fields(n, "the policy", "apiVersion", "kind", "metadata", "spec")
		if top["spec"] == nil {
			p.bad(n, "write spec: with scope: and rules:", "the policy has no spec")
			return
		}
		spec = p.fields(top["spec"], "the spec", "scope", "rules", "defaultActions")
	} else if kind := member(n, "type"); kind != nil && strings.EqualFold(kind.Value, "policy") {
		spec = p.fields(n, "the policy", "type", "name", "description", "version", "scope", "rules", "defaultActions")
	} else {
		p.bad(n, "write kind: Policy, or type: policy", "the document does not say that it is a policy")
		return
	}
	for _, e := range p.texts(spec["scope"], "scope") {
		if strings.ReplaceAll(e.Value, " ", "") == "global" {
			continue
		}
		if f, ok := p.filter(e); ok {
			f.scope = true
			p.scope = append(p.scope, f)
		}
	}
	rules := spec["rules"]
	if rules == nil || rules.Kind != yaml.SequenceNode {
		p.bad(n, "write rules: with - event: NAME", "the policy has no list of rules")
		return
	}
	for _, e := range rules.Content {
		p.rule(e)
	}
}

// member returns the value of a key of a mapping, nil when there is none.
func member(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// rule reads one rule. Its event can be several, with commas between.
func (p *traceePolicy) rule(n *yaml.Node) {
	fields := p.fields(n, "a rule", "event", "filters", "actions")
	event := fields["event"]
	if event == nil || event.Kind != yaml.ScalarNode || event.Value == "" {
		p.bad(n, "write - event: NAME", "the rule has no event")
		return
	}
	bytes := 0
	for _, f := range p.scope {
		bytes += len(f.text)
	}
	if !p.spend(bytes) {
		return
	}
	filters := slices.Clone(p.scope)
	for _, e := range p.texts(fields["filters"], "filters") {
		if f, ok := p.filter(e); ok {
			filters = append(filters, f)
			bytes += len(f.text)
		}
	}
	for name := range strings.SplitSeq(event.Value, ",") {
		if !p.spend(bytes + len(name)) {
			return
		}
		p.event(place{p.file, event.Line}, strings.TrimSpace(name), filters)
	}
}

// event adds the rule for one event.
func (p *traceePolicy) event(at place, name string, filters []traceeFilter) {
	out := rule{place: at, source: "event: " + name, events: []string{"exec"}, verdict: audit}
	e, known := traceeEvents[name]
	if !known {
		out.miss(bare(name) + ": no event here is its equal")
	} else {
		out.events = e.here
		p.findOnce(Note, at, "Tracee tells what happened; here it is asked about before, allowed, and recorded. To refuse it write verdict: deny")
		if e.call {
			p.findOnce(Note, at, "system calls of one kind are not told apart here, and one that fails before its check in the kernel is not seen")
		}
	}
	if known {
		c := traceeConditions{rule: &out, event: e}
		source := []string{out.source}
		for _, f := range filters {
			source = append(source, f.text)
			c.add(f)
		}
		out.source = strings.Join(source, " ")
		c.settle()
	}
	p.emit(out)
}

// findOverlapping notes that rules are tried one after another here.
func (im *importer) findOverlapping() {
	seen := map[string]bool{}
	for i := range im.rules {
		r := &im.rules[i]
		for _, e := range r.events {
			if seen[e] && !r.leftOut() {
				im.findOnce(Note, r.place, "an event that several rules match is recorded once here, by the first of them")
			}
			seen[e] = seen[e] || !r.leftOut()
		}
	}
}

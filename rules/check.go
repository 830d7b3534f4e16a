// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile fills f from the root of the document.
func (p *parser) readFile(root *yaml.Node, f *File) {
	m := p.mapping(root, "the file", "version", "default", "deadline", "on_fail", "scope", "rules")
	if m == nil {
		return
	}
	if !p.readVersion(root, m["version"]) {
		// A file of another version would only fill the screen.
		return
	}
	if n := m["default"]; n != nil {
		f.def = p.verdict(n, "default", true)
	} else {
		p.add(root, "write default: allow, or default: deny", "the field default is missing")
	}
	f.deadline = DefaultDeadline
	if n := m["deadline"]; n != nil {
		f.deadline, f.deadlineWritten = p.deadline(n), true
	}
	if n := m["on_fail"]; n != nil {
		f.onFail = p.verdict(n, "on_fail", false)
	}
	p.scope(root, m["scope"], f)
	if n := m["rules"]; n != nil && n.ShortTag() != "!!null" {
		p.rules(n, f)
	}
}

// readVersion reports whether the file is of the version that is read here.
func (p *parser) readVersion(root, n *yaml.Node) bool {
	if n == nil {
		p.add(root, "write version: 1 on the first line", "the field version is missing")
		return true
	}
	v, ok := p.text(n, "version", "write version: 1")
	if ok && v != "1" {
		p.add(n, "write version: 1; this program reads no other", "version %s is not supported", bare(v))
		return false
	}
	return true
}

func (p *parser) scope(root, n *yaml.Node, f *File) {
	const hint = "write scope: {paths: [/srv/app]} or scope: {cgroups: [/system.slice/app.service]}"
	if n == nil {
		p.add(root, hint, "the field scope is missing: it would arbitrate the whole machine")
		return
	}
	m := p.mapping(n, "scope", "paths", "cgroups")
	if m == nil {
		return
	}
	if len(n.Content) == 0 {
		p.add(n, hint, "the scope is empty: it would arbitrate the whole machine")
	}
	if n := m["paths"]; n != nil {
		for _, e := range p.list(n, "scope.paths") {
			pt, ok := p.pattern(e, "scope.paths")
			if ok && pt.kind != literal {
				p.add(e, `name the directory; write {literal: "..."} if it is really called so`, "scope.paths has %v: a scope names trees, without wildcards", pt)
			}
			f.scope.Paths = append(f.scope.Paths, pt.text)
		}
	}
	if n := m["cgroups"]; n != nil {
		for _, c := range p.cgroups(n, "scope.cgroups") {
			f.scope.Cgroups = append(f.scope.Cgroups, c.path)
		}
	}
}

func (p *parser) rules(n *yaml.Node, f *File) {
	if n.Kind != yaml.SequenceNode {
		if n.Kind != yaml.AliasNode {
			p.add(n, `write each rule as "- id: ..." below rules:`, "rules must be a list, not %s", kind(n))
		}
		return
	}
	if len(n.Content) > p.rulesMax {
		p.add(n.Content[p.rulesMax], "match many paths by a prefix, a glob or a list", "the file has %d rules, at most %d are read", len(n.Content), p.rulesMax)
		return
	}
	f.rules = make([]rule, 0, len(n.Content))
	for i, e := range n.Content {
		f.rules = append(f.rules, p.oneRule(e, i, f))
		p.rule = ""
	}
}

func (p *parser) oneRule(n *yaml.Node, index int, f *File) rule {
	r := rule{pos: pos{n.Line, n.Column}, deadline: f.deadline, onFail: f.onFail}
	what := fmt.Sprintf("rule number %d", index+1)
	if n.Kind == yaml.MappingNode { // the id goes with every problem of the rule
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k, v := n.Content[i], n.Content[i+1]; k.Value == "id" && v.Kind == yaml.ScalarNode && validID(v.Value) {
				p.rule, what = v.Value, "the rule"
				break
			}
		}
	}
	m := p.mapping(n, what, "id", "events", "object", "subject", "access", "not", "verdict", "message", "deadline", "on_fail")
	if m == nil {
		return r
	}
	if v := m["id"]; v != nil {
		r.id = p.id(v)
	} else {
		p.add(n, "write id: with a name of your own, such as no-shells", "%s has no id", what)
	}
	about := p.eventsOf(n, m["events"], what, &r)
	r.match = p.block(n, m, about)
	if v := m["not"]; v != nil {
		if nm := p.mapping(v, "not", "object", "subject", "access"); nm != nil {
			b := p.block(v, nm, about)
			r.not = &b
			if len(nm) == 0 {
				p.add(v, "name object, subject or access in it, or leave it out", "the not block is empty: the rule would never match")
			}
		}
	}
	if v := m["verdict"]; v != nil {
		r.verdict = p.verdict(v, "verdict", true)
	} else {
		p.add(n, verdictHint, "%s has no verdict", what)
	}
	if v := m["message"]; v != nil {
		r.message = p.message(v)
	}
	if v := m["deadline"]; v != nil {
		r.deadline, r.deadlineWritten = p.deadline(v), true
	}
	if v := m["on_fail"]; v != nil {
		r.onFail = p.verdict(v, "on_fail", false)
	}
	return r
}

// validID reports whether s is [a-z0-9][a-z0-9._-]{0,63}.
func validID(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if alnum := c >= 'a' && c <= 'z' || c >= '0' && c <= '9'; !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}

func (p *parser) id(n *yaml.Node) string {
	const hint = "write up to 64 of a-z 0-9 . _ - beginning with a letter or digit, such as no-shells"
	s, ok := p.text(n, "id", hint)
	switch {
	case !ok:
		return ""
	case !validID(s):
		p.add(n, hint, "the id %s is not valid", quote(s))
		return ""
	case s == "default":
		p.add(n, "choose another; the default verdict is reported by this name", "the id default is taken")
		return ""
	}
	if line, dup := p.ids[s]; dup {
		p.add(n, "give one of them another id", "duplicate id %s, the first is on line %d", s, line)
	} else {
		p.ids[s] = n.Line
	}
	return s
}

// eventsOf reads a rule's events and returns what the table says of each.
func (p *parser) eventsOf(at, n *yaml.Node, what string, r *rule) []namedEvent {
	names := strings.Join(p.events.names(), ", ")
	hint := "name at least one of " + names
	if n == nil {
		p.add(at, hint, "%s has no events", what)
		return nil
	}
	var about []namedEvent
	for _, e := range p.listHint(n, "events", hint) {
		s, ok := p.text(e, "events", hint)
		if !ok {
			continue
		}
		facts, known := p.events[s]
		switch {
		case known && r.events.has(facts.event):
			p.add(e, "keep one of them", "the event %s is named twice", s)
		case known:
			r.events.add(facts.event)
			about = append(about, namedEvent{s, facts})
		case later[s]:
			p.add(e, "take it out", "the event %s is not available yet; this version decides %s", s, names)
		default:
			hint := "write one of " + names
			if s := suggest(s, p.events.names()); s != "" {
				hint = "did you mean " + s + "? " + hint
			}
			p.add(e, hint, "unknown event %s", bare(s))
		}
	}
	return about
}

type namedEvent struct {
	name string
	eventFacts
}

// block reads object, subject and access from the fields of a rule or of its
// not block, and checks by the table that the events have them.
func (p *parser) block(at *yaml.Node, m map[string]*yaml.Node, about []namedEvent) block {
	var b block
	for _, e := range about {
		for _, c := range [...]struct {
			field string
			has   bool
		}{{"object", e.object}, {"subject", e.subject}, {"access", e.access}} {
			if n := m[c.field]; n != nil && !c.has {
				p.add(n, "take "+c.field+" out, or put "+e.name+" in a rule of its own", "the event %s has no %s to match", e.name, c.field)
			}
		}
	}
	if n := m["object"]; n != nil {
		if f := p.fields(n, "object", "path"); f["path"] != nil {
			b.path = p.patterns(f["path"], "object.path")
		}
	}
	if n := m["subject"]; n != nil {
		f := p.fields(n, "subject", "exe", "uid", "gid", "euid", "egid", "cgroup")
		if f["exe"] != nil {
			b.exe = p.patterns(f["exe"], "subject.exe")
		}
		b.uid = p.ids32(f["uid"], "subject.uid")
		b.gid = p.ids32(f["gid"], "subject.gid")
		b.euid = p.ids32(f["euid"], "subject.euid")
		b.egid = p.ids32(f["egid"], "subject.egid")
		if f["cgroup"] != nil {
			b.cgroup = p.cgroups(f["cgroup"], "subject.cgroup")
		}
	}
	if n := m["access"]; n != nil {
		b.access = p.access(n)
	}
	return b
}

// fields is mapping for a block of conditions, which must hold at least one.
func (p *parser) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	m := p.mapping(n, what, known...)
	if m != nil && len(n.Content) == 0 {
		p.add(n, "name one of "+strings.Join(known, ", ")+", or leave "+what+" out", "%s is empty", what)
	}
	return m
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

// readFile fills f from the root of the document.
func (p *parser) readFile(root *yaml.Node, f *File) {
	m := p.mapping(root, "the file", "version", "default", "deadline", "on_fail", "scope", "mute", "events", "sets", "rules")
	if m == nil {
		return
	}
	if !p.readVersion(root, m.get("version")) {
		// A file of another version would only fill the screen.
		return
	}
	if n := m.get("default"); n != nil {
		f.def = p.verdict(n, "default", true)
	} else {
		p.add(root, "write default: allow, or default: deny", "the field default is missing")
	}
	f.deadline = DefaultDeadline
	if n := m.get("deadline"); n != nil {
		f.deadline, f.deadlineWritten = p.deadline(n), true
	}
	if n := m.get("on_fail"); n != nil {
		f.onFail = p.verdict(n, "on_fail", false)
	}
	p.scope(root, m.get("scope"), f)
	if n := m.get("mute"); n != nil {
		p.mute(n, f)
	}
	if n := m.get("events"); n != nil {
		f.listedAt = pos{n.Line, n.Column}
		f.listed = p.eventList(n, "name at least one event that the default is for, or leave events out")
	}
	if n := m.get("sets"); n != nil {
		p.readSets(n, f)
	}
	if n := m.get("rules"); n != nil && n.ShortTag() != "!!null" {
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
	f.rules = make([]rule, len(n.Content))
	for i, e := range n.Content {
		p.oneRule(e, i, f)
		p.rule = ""
	}
}

// oneRule reads a rule into its place in f.rules.
func (p *parser) oneRule(n *yaml.Node, index int, f *File) {
	r := &f.rules[index]
	defer p.found.release(p.found.mark()) // nobody keeps the fields of a rule
	r.pos, r.deadline, r.onFail = pos{n.Line, n.Column}, f.deadline, f.onFail
	what := "the rule"
	if n.Kind == yaml.MappingNode { // the id goes with every problem of the rule
		for i := 0; i+1 < len(n.Content); i += 2 {
			if k, v := n.Content[i], n.Content[i+1]; k.Value == "id" && v.Kind == yaml.ScalarNode && validID(v.Value) {
				p.rule = v.Value
				break
			}
		}
	}
	if p.rule == "" {
		what = fmt.Sprintf("rule number %d", index+1)
	}
	m := p.mapping(n, what, "id", "events", "object", "detail", "args", "subject", "access", "not", "when", "verdict", "message", "owner", "reason", "ticket", "lifespan", "expires", "times", "deadline", "on_fail")
	if m == nil {
		return
	}
	if v := m.get("id"); v != nil {
		r.id = p.id(v)
	} else {
		p.add(n, "write id: with a name of your own, such as no-shells", "%s has no id", what)
	}
	if v := m.get("events"); v != nil {
		r.eventsAt = pos{v.Line, v.Column}
		r.events = p.eventList(v, eventsHint)
	} else {
		p.add(n, eventsHint, "%s has no events", what)
	}
	p.block(m, r.events, &r.match)
	if v := m.get("not"); v != nil {
		if nm := p.mapping(v, "not", "object", "detail", "args", "subject", "access"); nm != nil {
			r.not = new(block)
			p.block(nm, r.events, r.not)
			if len(nm) == 0 {
				p.add(v, "name object, detail, args, subject or access in it, or leave it out", "the not block is empty: the rule would never match")
			}
		}
	}
	if v := m.get("when"); v != nil && r.events != 0 {
		r.when = p.when(v, r.events)
	}
	if v := m.get("verdict"); v != nil && asks(v) {
		p.ask(v, r)
	} else if v != nil {
		r.verdict, r.only = p.ruleVerdict(v, r.events)
	} else {
		p.add(n, verdictHint, "%s has no verdict", what)
	}
	r.note = Note{Message: p.note(m.get("message"), "message", MaxMessageBytes), Owner: p.note(m.get("owner"), "owner", MaxNoteBytes),
		Reason: p.note(m.get("reason"), "reason", MaxNoteBytes), Ticket: p.note(m.get("ticket"), "ticket", MaxNoteBytes)}
	r.life = p.lifespan(m)
	if r.verdict.Action == Ask && r.life.kind == once {
		p.add(m.get("lifespan"), "take it out; whoever answers says for how long with --remember", "a rule that asks cannot have the lifespan once")
	}
	switch v := m.get("deadline"); {
	case v == nil:
	case r.verdict.Action == Ask:
		p.add(v, "take it out; within says how long somebody is asked", "a rule that asks has no deadline of its own")
	default:
		r.deadline, r.deadlineWritten = p.deadline(v), true
	}
	if v := m.get("on_fail"); v != nil {
		r.onFail = p.verdict(v, "on_fail", false)
	}
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

const eventsHint = "name at least one, such as open, exec or connect; docs/policy.md lists the events"

// eventList reads the names of events.
func (p *parser) eventList(n *yaml.Node, hint string) (set eventSet) {
	for _, node := range p.listHint(n, "events", hint) {
		s, ok := p.text(node, "events", hint)
		if !ok {
			continue
		}
		e, known := abi.ParseEvent(s)
		switch {
		case !known:
			p.add(node, UnknownEvent(s), "unknown event %s", bare(s))
		case set.has(e):
			p.add(node, "keep one of them", "the event %s is named twice", s)
		default:
			set.add(e)
		}
	}
	return set
}

// block reads the conditions from the fields of a rule or of its not block, and checks
// by the catalogue that the events have what they are about.
func (p *parser) block(m fields, about eventSet, b *block) {
	p.rare = rare{}
	b.rare = &p.rare
	defer func() {
		b.rare = p.noRare
		if p.rare.anyGiven() {
			own := p.rare
			b.rare = &own
		}
	}()
	for _, c := range [...]struct {
		field string
		with  eventSet
	}{{"object", withObject}, {"detail", withDetail}, {"access", withAccess}} {
		n := m.get(c.field)
		if n == nil {
			continue
		}
		for _, e := range (about &^ c.with).list() {
			p.add(n, instead(c.field, e, about), "the event %s has no %s to match", e, c.field)
		}
	}
	if n := m.get("object"); n != nil {
		f := p.fields(n, "object", "path", "owner", "group", "mode", "size", "sha256", "format", "fsverity", "scan")
		if f.get("path") != nil {
			b.path = p.patterns(f.get("path"), objectText(about))
		}
		b.attributes = p.attributes(f, about)
		b.size = p.sizes(f.get("size"), about)
		p.content(f, about, b)
	}
	if n := m.get("detail"); n != nil && about&withDetail != 0 {
		b.detail = p.patterns(n, detailText(about))
	}
	if n := m.get("args"); n != nil {
		p.args(n, about, b)
	}
	if n := m.get("subject"); n != nil {
		f := p.fields(n, "subject", "exe", "uid", "gid", "euid", "egid", "loginuid", "session", "capabilities", "host_namespaces", "cgroup", "process_tree")
		if f.get("exe") != nil {
			b.exe = p.patterns(f.get("exe"), pathText("subject.exe"))
		}
		b.uid = p.ids32(f.get("uid"), "subject.uid")
		b.gid = p.ids32(f.get("gid"), "subject.gid")
		b.euid = p.ids32(f.get("euid"), "subject.euid")
		b.egid = p.ids32(f.get("egid"), "subject.egid")
		b.credentials = p.credentials(f)
		if f.get("cgroup") != nil {
			b.cgroup = p.cgroups(f.get("cgroup"), "subject.cgroup")
		}
		b.tree = p.programs(f.get("process_tree"), "subject.process_tree", treeOfProgram)
	}
	if n := m.get("access"); n != nil {
		b.access = p.access(n)
	}
}

// instead says what to write when the event e has no such field to match.
func instead(field string, e abi.Event, about eventSet) string {
	hint := "take " + field + " out"
	if about != setOf(e) {
		hint += ", or put " + e.String() + " in a rule of its own"
	}
	ev := catalogue.Of(e)
	switch {
	case field == "detail":
		return hint + "; those that have one are " + strings.Join(withDetail.names(), ", ")
	case field == "object" && len(ev.Args) > 0:
		return hint + "; " + argsOf(setOf(e)) + " to match by args"
	case field == "object":
		return hint + "; match it by subject"
	}
	return hint
}

// fields is mapping for a block of conditions, which must hold at least one.
func (p *parser) fields(n *yaml.Node, what string, known ...string) fields {
	m := p.mapping(n, what, known...)
	if m != nil && len(n.Content) == 0 {
		p.add(n, "name one of "+strings.Join(known, ", ")+", or leave "+what+" out", "%s is empty", what)
	}
	return m
}

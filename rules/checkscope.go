// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/catalogue"
)

func (p *parser) scope(root, n *yaml.Node, f *File) {
	const hint = "write scope: {paths: [/srv/app]} or scope: {cgroups: [/system.slice/app.service]}"
	if n == nil {
		p.add(root, hint, "the field scope is missing: it would arbitrate the whole machine")
		return
	}
	m := p.mapping(n, "scope", dimensions...)
	if m == nil {
		return
	}
	if len(n.Content) == 0 {
		p.add(n, hint, "the scope is empty: it would arbitrate the whole machine")
	}
	f.scope = p.dimensions(m, "scope")
}

func (p *parser) mute(n *yaml.Node, f *File) {
	known := slices.Concat(dimensions, []string{"invert", "events", "unmute"})
	m := p.fields(n, "mute", known...)
	f.mute.Scope = p.dimensions(m, "mute")
	if v := m.get("invert"); v != nil {
		f.mute.Invert = p.words(v, "mute.invert", func(s string) string {
			switch {
			case !slices.Contains(dimensions, s):
				return "write any of " + strings.Join(dimensions, ", ")
			case m.get(s) == nil:
				return "add mute." + s + " with what is to be asked about, or take " + s + " out of invert"
			}
			return ""
		})
	}
	if v := m.get("events"); v != nil {
		f.mute.Events = p.eventList(v, "name at least one event that is left alone, or leave events out: then all are").list()
		if len(f.mute.Named()) == 0 {
			p.add(v, "name what is left alone in any of "+strings.Join(dimensions, ", ")+", or leave mute.events out", "mute.events stands alone")
		}
	}
	if v := m.get("unmute"); v != nil {
		var defaults []string
		for _, d := range catalogue.Mutes() {
			defaults = append(defaults, d.Name)
		}
		f.mute.Unmute = p.words(v, "mute.unmute", func(s string) string {
			if !slices.Contains(defaults, s) {
				return "the default mutes are " + strings.Join(defaults, ", ")
			}
			return ""
		})
	}
}

// words reads a list of words, each of which hint finds nothing to say about; sorted.
func (p *parser) words(n *yaml.Node, what string, hint func(string) string) (words []string) {
	for _, e := range p.list(n, what) {
		s, ok := p.text(e, what, "write a word")
		if !ok {
			continue
		}
		switch h := hint(s); {
		case h != "":
			p.add(e, h, "%s cannot have %s", what, quote(s))
		case slices.Contains(words, s):
			p.add(e, "keep one of them", "%s has %s twice", what, s)
		default:
			words = append(words, s)
		}
	}
	slices.Sort(words)
	return words
}

// dimensions reads the keys that scope and mute share.
func (p *parser) dimensions(m fields, what string) (s Scope) {
	s.Paths = p.places(m.get("paths"), what+".paths", "directory", "a "+what+" names trees")
	s.Exes = p.places(m.get("exes"), what+".exes", "program", "a "+what+" names programs, or directories of them")
	s.Mounts = p.places(m.get("mounts"), what+".mounts", "mount point", "a "+what+" names mount points")
	for _, t := range p.programs(m.get("process_trees"), what+".process_trees", treeOfProgram) {
		s.ProcessTrees = append(s.ProcessTrees, t.path)
	}
	if n := m.get("cgroups"); n != nil {
		for _, c := range p.cgroups(n, what+".cgroups") {
			s.Cgroups = append(s.Cgroups, c.path)
		}
	}
	for _, r := range p.ids32(m.get("uids"), what+".uids") {
		s.UIDs = append(s.UIDs, IDRange{uint32(r.lo), uint32(r.hi)})
	}
	return s
}

// places reads paths that are looked up when the rules are pushed; n may be nil.
func (p *parser) places(n *yaml.Node, what, thing, why string) (paths []string) {
	p.eachPlace(n, what, thing, why, func(_ *yaml.Node, path string) { paths = append(paths, path) })
	return paths
}

// treeOfProgram is why a process tree has no wildcards.
const treeOfProgram = "a process tree is named by a program"

// programs is places for programs that a rule names; n may be nil.
func (p *parser) programs(n *yaml.Node, what, why string) (programs []programPath) {
	p.eachPlace(n, what, "program", why, func(e *yaml.Node, path string) {
		programs = append(programs, programPath{pos{e.Line, e.Column}, path})
	})
	return programs
}

func (p *parser) eachPlace(n *yaml.Node, what, thing, why string, place func(*yaml.Node, string)) {
	if n == nil {
		return
	}
	for _, e := range p.list(n, what) {
		pt, ok := p.pattern(e, pathText(what))
		if ok && pt.kind != literal {
			p.add(e, "name the "+thing+`; write {literal: "..."} if it is really called so`, "%s has %v: %s, without wildcards", what, pt, why)
		}
		place(e, pt.text)
	}
}

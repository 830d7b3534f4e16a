// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// wildcards are the bytes that make a plain text a glob.
const wildcards = "*?[]{}"

// bytes returns a scalar's bytes: a text as it is, !!binary decoded.
func (p *parser) bytes(n *yaml.Node, what, hint string) (string, bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!binary" {
		raw := strings.Join(strings.Fields(n.Value), "")
		b, err := base64.StdEncoding.DecodeString(raw)
		if err != nil {
			p.add(n, "write the bytes in base64, as base64 -w0 prints them", "%s is not base64", what)
			return "", false
		}
		return string(b), true
	}
	return p.text(n, what, hint)
}

// plainPath checks that s can be a path that the kernel reports: absolute,
// clean, no NUL, not too long.
func (p *parser) plainPath(n *yaml.Node, s, what, hint string) bool {
	clean := s
	for strings.Contains(clean, "//") {
		clean = strings.ReplaceAll(clean, "//", "/")
	}
	if len(clean) > 1 {
		clean = strings.TrimSuffix(clean, "/")
	}
	switch {
	case strings.IndexByte(s, 0) >= 0:
		p.add(n, "take it out; no path can hold one", "%s has a NUL byte", what)
	case len(s) > MaxPatternBytes:
		p.add(n, "a path has no more; use a prefix or a glob", "%s has %d bytes, at most %d are compared", what, len(s), MaxPatternBytes)
	case !strings.HasPrefix(s, "/"):
		p.add(n, hint, "%s %s is not absolute", what, quote(s))
	case hasDots(s):
		p.add(n, "write the path as the kernel reports it, without . and .. in it", "%s %s is not clean", what, quote(s))
	case clean != s:
		p.add(n, "write "+bare(clean), "%s %s is not clean", what, quote(s))
	default:
		return true
	}
	return false
}

func hasDots(s string) bool {
	for c := range strings.SplitSeq(s, "/") {
		if c == "." || c == ".." {
			return true
		}
	}
	return false
}

// patterns reads one pattern or a list of them.
func (p *parser) patterns(n *yaml.Node, t textKind) []pattern {
	as := "path"
	switch {
	case t.free && t.abstract:
		as = "text or socket"
	case t.free:
		as = "text"
	case t.abstract:
		as = "socket"
	}
	return values(p, n, t.what, as, t.abstract || t.free, func(e *yaml.Node) (pattern, bool) { return p.pattern(e, t) })
}

func (p *parser) pattern(n *yaml.Node, t textKind) (pattern, bool) {
	pt, what := pattern{kind: literal}, t.what
	switch n.Kind {
	case yaml.MappingNode:
		m := p.mapping(n, what, "literal", "prefix", "glob")
		if m == nil {
			return pt, false
		}
		if len(m) != 1 {
			if len(m) > 1 || len(n.Content) == 0 {
				p.add(n, "write {literal: /a/b}, {prefix: /a/} or {glob: /a/*}; several go in a list", "%s must have one of literal, prefix, glob", what)
			}
			return pt, false
		}
		for _, one := range m {
			n = one.value
			what += "." + one.name
			switch one.name {
			case "prefix":
				pt.kind = prefix
			case "glob":
				pt.kind = globbed
			}
		}
	case yaml.SequenceNode:
		p.add(n, "write one list", "%s has a list in a list", what)
		return pt, false
	}
	explicit := strings.HasSuffix(what, ".literal")
	s, ok := p.bytes(n, what, t.hint)
	if !ok {
		return pt, false
	}
	if pt.kind == literal && !explicit && strings.ContainsAny(s, wildcards) {
		pt.kind = globbed
	}
	checked := s
	directory := strings.HasPrefix(s, "/") // a prefix of another text is where it begins
	if pt.kind == prefix && directory && len(s) > 1 {
		checked = strings.TrimSuffix(s, "/")
	}
	if !p.fits(n, checked, what, t) {
		return pt, false
	}
	pt.text = s
	switch pt.kind {
	case prefix:
		if pt.text = checked; directory && checked != "/" {
			pt.text += "/"
		}
	case globbed:
		g, err := compileGlob(s)
		if err != nil {
			p.add(n, err.hint, "%s %s: %s", what, quote(s), err.message)
			return pt, false
		}
		pt.glob = g
	}
	return pt, true
}

// cgroups reads one cgroup path or a list of them.
func (p *parser) cgroups(n *yaml.Node, what string) []cgroupPath {
	var cs []cgroupPath
	for _, e := range p.list(n, what) {
		s, ok := p.bytes(e, what, absoluteHint)
		if !ok {
			continue
		}
		if rest, cut := strings.CutPrefix(s, "/sys/fs/cgroup/"); cut {
			p.add(e, "write it from below the mount point: /"+bare(rest), "%s %s begins with the mount point", what, quote(s))
			continue
		}
		if !p.plainPath(e, s, what, absoluteHint) {
			continue
		}
		levels := strings.Count(s, "/")
		switch {
		case s == "/":
			p.add(e, "leave it out, or name a cgroup below it", "%s is the root cgroup, which holds every process", what)
		case levels > abi.CgroupLevels:
			p.add(e, "name one of its ancestors", "%s %s is %d levels deep, at most %d are compared", what, quote(s), levels, abi.CgroupLevels)
		default:
			cs = append(cs, cgroupPath{pos{e.Line, e.Column}, s})
		}
	}
	return cs
}

// ids32 reads uids or gids: numbers and ranges, one or a list. n may be nil.
func (p *parser) ids32(n *yaml.Node, what string) []numberRange {
	if n == nil {
		return nil
	}
	return values(p, n, what, "id", false, func(e *yaml.Node) (r numberRange, ok bool) {
		s, ok := p.text(e, what, "write a number such as 1000 or a range such as 1000-1999")
		if !ok {
			return r, false
		}
		r, hint := parseRange(s)
		if hint != "" {
			p.add(e, hint, "%s %s is not a number or a range", what, quote(s))
		}
		return r, hint == ""
	})
}

// notANumber is the hint about what is neither a number nor a range.
const notANumber = "write a number such as 1000 or a range such as 1000-1999; the number of a name is printed by: id -u NAME"

// parseRange reads "5" or "5-9"; a hint that is not empty says what is wrong.
func parseRange(s string) (numberRange, string) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	var v [2]uint64
	for i, t := range [...]string{first, last} {
		t = strings.TrimSpace(t)
		if t == "" || strings.Trim(t, "0123456789") != "" {
			return numberRange{}, notANumber
		}
		if len(t) > 1 && t[0] == '0' {
			return numberRange{}, "write it in decimal without leading zeros"
		}
		n, err := strconv.ParseUint(t, 10, 32)
		if err != nil || n == math.MaxUint32 {
			return numberRange{}, "the largest id is 4294967294"
		}
		v[i] = n
	}
	if v[1] < v[0] {
		return numberRange{}, fmt.Sprintf("write the smaller number first: %d-%d", v[1], v[0])
	}
	return numberRange{v[0], v[1]}, ""
}

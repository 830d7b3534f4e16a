// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"fmt"
	"path"
	"strings"
)

// wildcards are the bytes that make a plain text a glob.
const wildcards = "*?[]{}"

func (p pattern) node() node {
	switch {
	case p.kind == prefix:
		return node{}.with("prefix", quoted(p.text))
	case p.kind == literal && strings.ContainsAny(p.text, wildcards):
		return node{}.with("literal", quoted(p.text))
	}
	return quoted(p.text)
}

func (c *conditions) node() node {
	return node{}.
		with("object", node{}.with("path", anyOf(c.path, pattern.node)).with("sha256", anyOf(c.sha256, quoted))).
		with("detail", anyOf(c.detail, pattern.node)).
		with("args", node{}.with("capability", anyOf(c.capability, word))).
		with("subject", node{}.with("exe", anyOf(c.exe, pattern.node)).
			with("uid", anyOf(c.uid, number)).with("gid", anyOf(c.gid, number)).
			with("euid", anyOf(c.euid, number)).with("egid", anyOf(c.egid, number))).
		with("access", list(c.access, word))
}

func (r *rule) node() node {
	n := node{}.with("id", word(r.id)).with("events", list(r.events, word))
	n.keys = append(n.keys, r.match.node().keys...)
	v := word(r.verdict.action)
	if r.verdict.errno != "" {
		v = node{}.with(r.verdict.action, word(r.verdict.errno))
	}
	n = n.with("not", r.not.node()).with("verdict", v)
	if r.message != "" {
		n = n.with("message", quoted(r.message))
	}
	return n
}

// file writes the rule file. It stops when that is larger than a rule file may be.
func (im *importer) file(sources []Source) []byte {
	var b strings.Builder
	left := 0
	for i := range im.rules {
		if im.rules[i].leftOut() {
			left++
		}
	}
	fmt.Fprintf(&b, "# Imported by: arbiterctl rules import %s\n", im.format)
	for _, s := range sources {
		fmt.Fprintf(&b, "#   %s\n", comment(s.Name))
	}
	fmt.Fprintf(&b, "# Rules: %d. Left out, and here as comments: %d. Read it all before it is pushed:\n", len(im.rules)-left, left)
	b.WriteString("# docs/importing.md says what becomes of what.\n")
	scope := node{}.with("paths", list(im.Paths, func(p string) node { return pattern{text: p}.node() })).
		with("cgroups", list(im.Cgroups, quoted))
	node{}.with("version", word("1")).with("default", word("allow")).with("scope", scope).lines(&b, "")
	b.WriteString("rules:\n")
	for i := range im.rules {
		im.rules[i].write(&b)
		if b.Len() > maxTextBytes {
			break
		}
	}
	return []byte(b.String())
}

// write writes the rule, below comments that say where it is from and what is to be said of it.
func (r *rule) write(b *strings.Builder) {
	fmt.Fprintf(b, "\n  # %s:%d: %s\n", comment(path.Base(r.file)), r.line, comment(r.source))
	for _, how := range r.changed {
		fmt.Fprintf(b, "  # changed: %s\n", how)
	}
	var text strings.Builder
	r.node().lines(&text, "    ")
	body := "  - " + strings.TrimPrefix(text.String(), "    ")
	if !r.leftOut() {
		b.WriteString(body)
		return
	}
	for _, why := range r.missing {
		fmt.Fprintf(b, "  # left out: %s\n", why)
	}
	for line := range strings.Lines(body) {
		b.WriteString("  #" + strings.TrimPrefix(line, " "))
	}
}

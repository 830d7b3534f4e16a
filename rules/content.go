// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// withContent are the events whose object is a file that is there already, and whose
// content is what the event is about.
var withContent = setOf(abi.EventOpen, abi.EventExec, abi.EventMMapExec, abi.EventModuleLoad, abi.EventReadFile)

// needContent finds the events that have nothing for that field to match.
func (p *parser) needContent(n *yaml.Node, field string, about eventSet) {
	for _, e := range (about &^ withContent).list() {
		p.add(n, "match it by object.path, or put "+e.String()+" in a rule of its own; those that have one are "+strings.Join(withContent.names(), ", "),
			"the event %s has no content to match by %s", e, field)
	}
}

// contentMatch is what a block asks of the content. The zero value asks for nothing.
type contentMatch struct {
	sums    []digest  // sorted, each once; nil for any
	formats formatSet // 0 for any, and for no content too
	inNot   bool
}

// A fact of the content that nobody has looked at yet is what makes the rule match: then the
// decision is that it is needed. The format stands before the digest, because it takes a few
// bytes and not all of them: so no file is hashed whose format decides.

// fails returns the condition that does not hold, none when all do.
func (m *contentMatch) fails(r *abi.Request) condition {
	if c := m.refuted(r); c != none || !m.inNot {
		return c
	}
	return m.lacks(r)
}

// refuted returns the condition that does not hold for what is known.
func (m *contentMatch) refuted(r *abi.Request) condition {
	no := r.NoContent()
	switch {
	case m.formats != 0 && (no || r.Format != abi.FormatUnknown && !m.formats.has(r.Format)):
		return condFormat
	case m.sums != nil && (no || r.Flags&abi.FlagDigest != 0 && !m.has(&r.Digest)):
		return condDigest
	}
	return none
}

// lacks returns the first condition on a fact that is not known.
func (m *contentMatch) lacks(r *abi.Request) condition {
	switch {
	case m.formats != 0 && m.formats != anyFormat && r.Format == abi.FormatUnknown:
		return condFormat
	case m.sums != nil && r.Flags&abi.FlagDigest == 0:
		return condDigest
	}
	return none
}

// needs returns the condition that keeps the rule, of which everything that is known matches,
// from being decided; none when it is.
func (rs *RuleSet) needs(m *matcher, r *abi.Request) condition {
	if r.NoContent() {
		return none
	}
	need := rs.contents[m.match.content].lacks(r)
	not := &rs.nots[m.not]
	// The content is looked at last: nothing else keeps the block from holding.
	if c := rs.contents[not.content].lacks(r); c != none && (need == none || c < need) && rs.fails(not, r) == c {
		return c
	}
	return need
}

// contentNames are what the conditions on the content are called.
var contentNames = map[condition]string{condFormat: "object.format", condDigest: "object.sha256"}

// covers reports whether m holds wherever o does.
func (m *contentMatch) covers(o *contentMatch) bool {
	return (m.formats == 0 || o.formats != 0 && o.formats&^m.formats == 0) &&
		(m.sums == nil || o.sums != nil && !slices.ContainsFunc(o.sums, func(d digest) bool { return !m.has((*[len(d)]byte)(&d)) }))
}

// words returns what is known of the content, and what is wanted.
func (m *contentMatch) words(c condition, r *abi.Request) (subject string, wanted []string) {
	if c == condFormat && r.Format == abi.FormatUnknown {
		return "object.format, which is not known,", m.formats.names()
	}
	if c == condFormat {
		return "object.format " + r.Format.String(), m.formats.names()
	}
	for _, d := range m.sums {
		wanted = append(wanted, hex.EncodeToString(d[:]))
	}
	return fmt.Sprintf("object.sha256 %x", r.Digest), wanted
}

// content adds what a block asks of the content to the pool, and returns its number.
func (c *compiler) content(b *block, inNot bool) uint32 {
	if b.formats == 0 && len(b.digest) == 0 {
		return 0
	}
	m := contentMatch{formats: b.formats, inNot: inNot}
	key := contentKey{formats: b.formats, inNot: inNot}
	if len(b.digest) > 0 {
		key.first = &b.digest[0]
		if m.sums = c.sums[key.first]; m.sums == nil {
			m.sums = sortedDigests(b.digest)
			c.sums[key.first] = m.sums
		}
	}
	n, ok := c.contents[key]
	if !ok {
		n = uint32(len(c.pool.contents))
		c.contents[key] = n
		c.pool.contents = append(c.pool.contents, m)
	}
	return n
}

// contentKey is what contentMatches are known by.
type contentKey struct {
	first   *digest
	formats formatSet
	inNot   bool
}

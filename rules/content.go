// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/hex"
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

// contentFacts are the facts of the content, in the order in which they are looked at: what
// takes less stands first. The conditions on them and the actions that ask for them have the
// same order, from condFormat and NeedsFormat on.
var contentFacts = [...]struct {
	field abi.Fields
	key   string
}{
	{abi.FieldFormat, "object.format"},
	{abi.FieldVerity, "object.fsverity"},
	{abi.FieldDigest, "object.sha256"},
	{abi.FieldScan, "object.scan"},
}

// content reads what is asked of the content of the object from the block f.
func (p *parser) content(f fields, about eventSet, b *block) {
	if n := f.get("sha256"); n != nil {
		b.digest = p.digests(n, about)
	}
	if n := f.get("format"); n != nil {
		b.formats = p.formats(n, about)
	}
	if n := f.get("fsverity"); n != nil {
		b.verity = p.verities(n, about)
	}
	if n := f.get("scan"); n != nil {
		b.scans = p.scans(n, about)
	}
}

// contentFields returns which facts of the content the block asks for.
func (b *block) contentFields() (has abi.Fields) {
	if len(b.digest) > 0 {
		has |= abi.FieldDigest
	}
	if b.formats != 0 {
		has |= abi.FieldFormat
	}
	if len(b.verity) > 0 {
		has |= abi.FieldVerity
	}
	if b.scans != 0 {
		has |= abi.FieldScan
	}
	return has
}

// contentMatch is what a block asks of the content. The zero value asks for nothing.
type contentMatch struct {
	sums    []digest          // sorted, each once; nil for any
	verity  *verityMatch      // likewise
	formats kinds[abi.Format] // 0 for any, and for no content too
	scans   kinds[abi.Scan]   // likewise
	inNot   bool
}

// A fact of the content that nobody has looked at yet is what makes the rule match: then the
// decision is that it is needed. The digest stands behind what takes a few bytes of a file or none,
// because it takes all of them: so no file is hashed that the others decide about. A scan is the
// last, because it takes longest.

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
	case m.verity != nil && (no || r.Verity.Alg != abi.VerityUnknown && !m.verity.has(&r.Verity)):
		return condVerity
	case m.sums != nil && (no || r.Flags&abi.FlagDigest != 0 && !m.has(&r.Digest)):
		return condDigest
	case m.scans != 0 && (no || r.Scan != abi.ScanUnknown && !m.scans.has(r.Scan)):
		return condScan
	}
	return none
}

// lacks returns the first condition on a fact that is not known.
func (m *contentMatch) lacks(r *abi.Request) condition {
	switch {
	case m.formats != 0 && m.formats != anyFormat && r.Format == abi.FormatUnknown:
		return condFormat
	case m.verity != nil && !m.verity.all() && r.Verity.Alg == abi.VerityUnknown:
		return condVerity
	case m.sums != nil && r.Flags&abi.FlagDigest == 0:
		return condDigest
	case m.scans != 0 && m.scans != anyScan && r.Scan == abi.ScanUnknown:
		return condScan
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

// only returns what is asked of the facts that are known.
func (m contentMatch) only(known abi.Fields) contentMatch {
	if known&abi.FieldDigest == 0 {
		m.sums = nil
	}
	if known&abi.FieldFormat == 0 {
		m.formats = 0
	}
	if known&abi.FieldVerity == 0 {
		m.verity = nil
	}
	if known&abi.FieldScan == 0 {
		m.scans = 0
	}
	return m
}

// witness gives r a content of which all is known and for which m holds.
func (m *contentMatch) witness(r *abi.Request) {
	c := abi.Content{Known: abi.ContentFields, Format: abi.FormatOther, Verity: abi.Verity{Alg: abi.VerityNone}, Scan: abi.ScanClean}
	if m.sums != nil {
		c.Digest = m.sums[0]
	}
	if m.verity != nil {
		c.Verity = m.verity.witness()
	}
	if m.formats != 0 {
		for c.Format = abi.FormatUnknown + 1; !m.formats.has(c.Format); c.Format++ {
		}
	}
	if m.scans != 0 {
		for c.Scan = abi.ScanUnknown + 1; !m.scans.has(c.Scan); c.Scan++ {
		}
	}
	r.Learn(&c)
}

// covers reports whether m holds wherever o does.
func (m *contentMatch) covers(o *contentMatch) bool {
	return (m.formats == 0 || o.formats != 0 && o.formats&^m.formats == 0) &&
		(m.verity == nil || o.verity != nil && m.verity.covers(o.verity)) &&
		(m.scans == 0 || o.scans != 0 && o.scans&^m.scans == 0) &&
		(m.sums == nil || o.sums != nil && !slices.ContainsFunc(o.sums, func(d digest) bool { return !m.has((*[len(d)]byte)(&d)) }))
}

// words returns what is known of the content, and what is wanted.
func (m *contentMatch) words(c condition, r *abi.Request) (subject string, wanted []string) {
	var is string
	switch c {
	case condFormat:
		is, wanted = r.Format.String(), m.formats.names()
	case condVerity:
		is, wanted = r.Verity.String(), m.verity.names()
	case condDigest:
		is = hex.EncodeToString(r.Digest[:])
		for _, d := range m.sums {
			wanted = append(wanted, hex.EncodeToString(d[:]))
		}
	case condScan:
		is, wanted = r.Scan.String(), m.scans.names()
	}
	of := contentFacts[c-condFormat]
	if r.Content()&of.field == 0 {
		return of.key + ", which is not known,", wanted
	}
	return of.key + " " + is, wanted
}

// content adds what a block asks of the content to the pool, and returns its number.
func (c *compiler) content(b *block, inNot bool) uint32 {
	if b.contentFields() == 0 {
		return 0
	}
	m := contentMatch{formats: b.formats, scans: b.scans, inNot: inNot}
	key := contentKey{formats: b.formats, scans: b.scans, inNot: inNot}
	if len(b.digest) > 0 {
		key.sums = &b.digest[0]
		if m.sums = c.sums[key.sums]; m.sums == nil {
			m.sums = sortedDigests(b.digest)
			c.sums[key.sums] = m.sums
		}
	}
	if len(b.verity) > 0 {
		key.verity = &b.verity[0]
		if m.verity = c.verities[key.verity]; m.verity == nil {
			m.verity = newVerityMatch(b.verity)
			c.verities[key.verity] = m.verity
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
	sums    *digest     // the first one of the list
	verity  *abi.Verity // likewise
	formats kinds[abi.Format]
	scans   kinds[abi.Scan]
	inNot   bool
}

// contents appends a fact of the content of all blocks that ask for it, by its word; such facts
// came later than the rest of the form.
func (e *encoder) contents(rs []rule, word string, fact abi.Fields, write func(*block)) {
	e.blocks(rs, word, func(b *block) bool { return b.contentFields()&fact != 0 }, write)
}

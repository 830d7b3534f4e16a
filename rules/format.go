// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// formatSet is a set of formats, a bit each.
type formatSet uint8

// anyFormat has all of them: each file with a content is of one.
const anyFormat formatSet = 1<<abi.FormatCount - 1 - 1<<abi.FormatUnknown

func (s formatSet) has(f abi.Format) bool { return s>>f&1 != 0 }

func (s formatSet) names() (out []string) {
	for f := abi.FormatUnknown + 1; f < abi.FormatCount; f++ {
		if s.has(f) {
			out = append(out, f.String())
		}
	}
	return out
}

// formats reads one format or a list of them.
func (p *parser) formats(n *yaml.Node, about eventSet) (set formatSet) {
	p.needContent(n, "object.format", about)
	hint := "write any of " + strings.Join(anyFormat.names(), ", ")
	for _, e := range p.list(n, "object.format") {
		s, ok := p.text(e, "object.format", hint)
		if !ok {
			continue
		}
		f, known := abi.ParseFormat(s)
		lower, meant := abi.ParseFormat(strings.ToLower(s))
		switch {
		case known:
			set |= 1 << f
		case meant:
			p.add(e, "write "+lower.String(), "unknown format %s", bare(s))
		case strings.Contains(s, "/"):
			p.add(e, hint, "object.format %s looks like a MIME type: formats are told by the first bytes alone", quote(s))
		default:
			p.add(e, hint, "unknown format %s", bare(s))
		}
	}
	return set
}

// SetFormat gives a request the format of that name; empty: it is not known.
func SetFormat(r *abi.Request, text string) error {
	f, ok := abi.ParseFormat(text)
	if !ok && text != "" {
		return fmt.Errorf("%s is no format: give %s", quote(text), strings.Join(anyFormat.names(), ", "))
	}
	r.Format = f
	return nil
}

// formats appends the formats of all rules, which came later than the rest of the form.
func (e *encoder) formats(rs []rule) {
	e.contents(rs, "format", abi.FieldFormat, func(b *block) { e.number(uint64(b.formats)) })
}

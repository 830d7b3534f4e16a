// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// anyFormat has all formats: each file with a content is of one.
const anyFormat kinds[abi.Format] = 1<<abi.FormatCount - 1 - 1<<abi.FormatUnknown

// formats reads one format or a list of them.
func (p *parser) formats(n *yaml.Node, about eventSet) kinds[abi.Format] {
	const what = "format"
	return parseKinds(p, n, "object.format", what, about, anyFormat, abi.ParseFormat, func(e *yaml.Node, name, hint string) {
		if strings.Contains(name, "/") {
			p.add(e, hint, "object.format %s looks like a MIME type: formats are told by the first bytes alone", quote(name))
			return
		}
		p.add(e, hint, "unknown %s %s", what, bare(name))
	})
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

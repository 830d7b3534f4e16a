// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// enumeration is the type of the few values of a fact, of which 0 says that it is not known.
type enumeration interface {
	~uint8
	String() string
}

// kinds is a set of them, a bit each.
type kinds[K enumeration] uint8

// kindBits is how many there can be.
const kindBits = 8

func (s kinds[K]) has(k K) bool { return s>>k&1 != 0 }

func (s kinds[K]) names() (out []string) {
	for k := K(1); k < kindBits; k++ {
		if s.has(k) {
			out = append(out, k.String())
		}
	}
	return out
}

// parseKinds reads one of any, or a list of them. stranger says what is wrong with a name that is none.
func parseKinds[K enumeration](p *parser, n *yaml.Node, key, what string, about eventSet, any kinds[K], parse func(string) (K, bool), stranger func(e *yaml.Node, name, hint string)) (set kinds[K]) {
	p.needContent(n, key, about)
	hint := "write any of " + strings.Join(any.names(), ", ")
	for _, e := range p.list(n, key) {
		s, ok := p.text(e, key, hint)
		if !ok {
			continue
		}
		k, known := parse(s)
		lower, meant := parse(strings.ToLower(s))
		switch {
		case known:
			set |= 1 << k
		case meant:
			p.add(e, "write "+lower.String(), "unknown %s %s", what, bare(s))
		default:
			stranger(e, s, hint)
		}
	}
	return set
}

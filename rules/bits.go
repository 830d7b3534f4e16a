// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// bitTest is a condition on the bits of a number. The zero value is one that is not given.
type bitTest struct{ all, any uint64 }

// bitTest reads one of a fact that is nothing but bits, as hint says. wrong says what the bits are that
// are not in valid.
func (p *parser) bitTest(n *yaml.Node, what string, names numbering, valid uint64, hint, wrong string) (t bitTest) {
	if n == nil {
		return t
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.add(n, hint, "%s must be a mapping with all or any, not %s", what, emptyOr(n))
		return t
	}
	a := p.argTest(n, what, names)
	if bits := (a.all | a.any) &^ valid; bits != 0 {
		p.add(n, wrong, "%s has %s, which nothing has", what, plainBits(names, bits))
		return t
	}
	return bitTest{a.all, a.any}.normal()
}

// normal returns the same condition in one form: any has two bits at least, and none of all.
func (t bitTest) normal() bitTest {
	if t.any&(t.any-1) == 0 {
		t.all, t.any = t.all|t.any, 0
	}
	if t.all&t.any != 0 {
		t.any = 0
	}
	return t
}

// some returns bits for which t holds, as few as there can be.
func (t bitTest) some() uint64 { return t.all | t.any&-t.any }

func (t bitTest) given() bool { return t.all|t.any != 0 }

func (t bitTest) holds(v uint64) bool { return v&t.all == t.all && (t.any == 0 || v&t.any != 0) }

// covers reports whether t holds wherever o does; both are normal.
func (t bitTest) covers(o bitTest) bool {
	return t.all&^o.all == 0 && (t.any == 0 || o.all&t.any != 0 || o.any != 0 && o.any&^t.any == 0)
}

// words says which bits are wanted; nil when none are.
func (t bitTest) words(text func(uint64) string) []string {
	var parts []string
	if t.all != 0 {
		parts = append(parts, "all of "+text(t.all))
	}
	if t.any != 0 {
		parts = append(parts, "any of "+text(t.any))
	}
	if parts == nil {
		return nil
	}
	return []string{strings.Join(parts, " and ")}
}

func (t bitTest) appendKey(key []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(key, t.all), t.any)
}

// plainBits writes bits as a number, whatever names they have.
func plainBits(names numbering, bits uint64) string {
	if numberings[names].octal {
		return fmt.Sprintf("0o%o", bits)
	}
	return fmt.Sprintf("0x%x", bits)
}

// bitNames writes bits by their names, with commas between them.
func bitNames(names numbering) func(uint64) string {
	return func(bits uint64) string {
		var out []string
		for b := uint64(1); b != 0; b <<= 1 {
			if bits&b != 0 {
				out = append(out, names.text(b))
			}
		}
		return strings.Join(out, ", ")
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// verityAny stands in rules for every fs-verity digest.
const verityAny = abi.VerityCount

const verityHint = "write what fsverity digest FILE prints, such as sha256:9b1c and so on, any, none, or a list of them"

// verities reads one fs-verity digest or a list of them.
func (p *parser) verities(n *yaml.Node, about eventSet) []abi.Verity {
	p.needContent(n, "object.fsverity", about)
	vs := values(p, n, "object.fsverity", "fs-verity digest", false, p.verity)
	has := func(of func(abi.Verity) bool) bool { return slices.ContainsFunc(vs, of) }
	if has(func(v abi.Verity) bool { return v.Alg == verityAny }) && has(func(v abi.Verity) bool { return v.Alg.Size() > 0 }) {
		p.add(n, "take the digests out, or any", "object.fsverity has digests beside any, which has all of them")
	}
	return vs
}

func (p *parser) verity(n *yaml.Node) (v abi.Verity, ok bool) {
	s, ok := p.text(n, "object.fsverity", verityHint)
	if !ok {
		return v, false
	}
	if s == "any" {
		return abi.Verity{Alg: verityAny}, true
	}
	if v, ok = abi.ParseVerity(s); ok {
		return v, true
	}
	name, digits, isDigest := strings.Cut(s, ":")
	raw, err := hex.DecodeString(s)
	alg := abi.VerityNone + 1
	for alg < abi.VerityCount && alg.String() != name {
		alg++
	}
	switch {
	case !isDigest && err == nil && len(raw) > 0:
		p.add(n, "write the name of the hash before it, as fsverity digest FILE prints it: sha256:"+s[:min(len(s), 4)]+" and so on; what sha256sum prints is another digest, which object.sha256 is for",
			"object.fsverity %s does not say which hash it is made with", quote(s))
	case !isDigest:
		p.add(n, verityHint, "object.fsverity %s is no digest", quote(s))
	case alg == abi.VerityCount:
		p.add(n, "the kernel knows sha256 and sha512", "object.fsverity %s is made with a hash that fs-verity has not", quote(s))
	case len(digits) != hex.EncodedLen(alg.Size()):
		p.add(n, verityHint, "object.fsverity %s has %d digits, a digest by %s has %d", quote(s), len(digits), name, hex.EncodedLen(alg.Size()))
	default:
		p.add(n, verityHint, "object.fsverity %s is not hex", quote(s))
	}
	return v, false
}

// SetVerity gives a request the fs-verity digest that text is, or none; empty: it is not known.
func SetVerity(r *abi.Request, text string) error {
	v, ok := abi.ParseVerity(text)
	if !ok && text != "" {
		return fmt.Errorf("%s is no fs-verity digest: give what fsverity digest FILE prints, such as sha256:9b1c and so on, or none", quote(text))
	}
	r.Verity = v
	return nil
}

// verityMatch is a list of fs-verity digests.
type verityMatch struct {
	sums      []abi.Verity // sorted, each once
	any, none bool
}

func newVerityMatch(vs []abi.Verity) *verityMatch {
	m := &verityMatch{}
	for _, v := range vs {
		switch v.Alg {
		case verityAny:
			m.any = true
		case abi.VerityNone:
			m.none = true
		default:
			m.sums = append(m.sums, v)
		}
	}
	slices.SortFunc(m.sums, compareVerity)
	m.sums = slices.Clip(slices.Compact(m.sums))
	return m
}

func compareVerity(a, b abi.Verity) int {
	return cmp.Or(bytes.Compare(a.Sum[:], b.Sum[:]), cmp.Compare(a.Alg, b.Alg))
}

// has reports whether what is known of a file is in the list.
func (m *verityMatch) has(v *abi.Verity) bool {
	if v.Alg == abi.VerityNone {
		return m.none
	}
	if m.any {
		return true
	}
	_, found := slices.BinarySearchFunc(m.sums, *v, compareVerity)
	return found
}

// len returns how many digests are in the list.
func (m *verityMatch) len() int {
	if m == nil {
		return 0
	}
	return len(m.sums)
}

// keys returns what the list can be filed under, nothing where it has digests that it does not name.
func (m *verityMatch) keys() (parts [][]key) {
	if m == nil || m.any {
		return nil
	}
	if m.none {
		parts = append(parts, []key{verityKey(&abi.Verity{Alg: abi.VerityNone})})
	}
	for i := range m.sums {
		parts = append(parts, []key{verityKey(&m.sums[i])})
	}
	return parts
}

func verityKey(v *abi.Verity) key {
	return key{fact: factVerity, kind: keyContent, n: uint16(v.Alg), a: binary.LittleEndian.Uint64(v.Sum[:]), b: binary.LittleEndian.Uint64(v.Sum[8:])}
}

// all reports whether every file with a content is in the list: nobody has to look.
func (m *verityMatch) all() bool { return m.any && m.none }

func (m *verityMatch) covers(o *verityMatch) bool {
	return (m.none || !o.none) && (m.any || !o.any && !slices.ContainsFunc(o.sums, func(v abi.Verity) bool { return !m.has(&v) }))
}

func (m *verityMatch) names() (out []string) {
	if m == nil {
		return nil
	}
	if m.any {
		out = append(out, "any")
	}
	if m.none {
		out = append(out, "none")
	}
	for _, v := range m.sums {
		out = append(out, v.String())
	}
	return out
}

// witness returns what is in the list.
func (m *verityMatch) witness() abi.Verity {
	switch {
	case len(m.sums) > 0:
		return m.sums[0]
	case m.none:
		return abi.Verity{Alg: abi.VerityNone}
	}
	return abi.Verity{Alg: abi.VeritySHA256}
}

// verities appends the fs-verity digests of all rules, which came later than the rest of the form.
func (e *encoder) verities(rs []rule) {
	e.contents(rs, "fsverity", abi.FieldVerity, func(b *block) {
		long(e, b.verity, func(e *encoder, v abi.Verity) {
			e.number(uint64(v.Alg))
			e.bytes(v.Sum[:])
		})
	})
}

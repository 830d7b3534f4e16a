// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// digest is the SHA-256 of a file's content.
type digest [sha256.Size]byte

// digests reads one digest or a list of them.
func (p *parser) digests(n *yaml.Node, about eventSet) []digest {
	p.needContent(n, "object.sha256", about)
	return values(p, n, "object.sha256", "digest", false, p.digest)
}

func (p *parser) digest(n *yaml.Node) (d digest, ok bool) {
	const hint = "write the 64 hex digits that sha256sum FILE prints"
	s, ok := p.text(n, "object.sha256", hint)
	if !ok {
		return d, false
	}
	raw, err := hex.DecodeString(s)
	switch {
	case strings.HasPrefix(s, "sha256:"):
		p.add(n, "leave sha256: out", "object.sha256 %s begins with the name of the hash", quote(s))
	case len(s) != hex.EncodedLen(len(d)):
		p.add(n, hint, "object.sha256 %s has %d characters, a SHA-256 has %d", quote(s), len(s), hex.EncodedLen(len(d)))
	case err != nil:
		p.add(n, hint, "object.sha256 %s is not hex", quote(s))
	default:
		return digest(raw), true
	}
	return d, false
}

// SetDigest gives a request the digest that text is, in hex; empty: it is not known.
func SetDigest(r *abi.Request, text string) error {
	if text == "" {
		return nil
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(r.Digest) {
		return fmt.Errorf("%s is no SHA-256: give the 64 hex digits that sha256sum FILE prints", quote(text))
	}
	r.Digest, r.Flags = [sha256.Size]byte(raw), r.Flags|abi.FlagDigest
	return nil
}

// sortedDigests returns the digests in the order that has expects, each once.
func sortedDigests(ds []digest) []digest {
	sums := slices.Clone(ds)
	slices.SortFunc(sums, func(a, b digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Clip(slices.Compact(sums))
}

func (m *contentMatch) has(d *[sha256.Size]byte) bool {
	lo, hi := 0, len(m.sums)
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch c := bytes.Compare(d[:], m.sums[mid][:]); {
		case c < 0:
			hi = mid
		case c > 0:
			lo = mid + 1
		default:
			return true
		}
	}
	return false
}

func digestKey(d digest) key {
	return key{fact: factDigest, kind: keyContent, a: binary.LittleEndian.Uint64(d[:]), b: binary.LittleEndian.Uint64(d[8:])}
}

// digests appends the digests of all rules, which came later than the rest of the form.
func (e *encoder) digests(rs []rule) {
	e.contents(rs, "sha256", abi.FieldDigest, func(b *block) {
		long(e, b.digest, func(e *encoder, d digest) { e.bytes(d[:]) })
	})
}

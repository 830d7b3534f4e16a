// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestTextHash compares the hashes that come out of a pass over a request's path with those
// that rules are filed under. What is behind the path in its buffer must not be among them.
func TestTextHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab/.")), 0, 40, -1).Draw(t, "text")
		behind := rapid.SampledFrom([]string{"", "/", "//////////", "abcdefgh", "b/b/b/b/"}).Draw(t, "behind")
		if rapid.Bool().Draw(t, "at the end of the buffer") {
			text = strings.Repeat("/long", abi.PathBytes/5+1)[:abi.PathBytes-len(text)] + text
		}
		var r abi.Request
		r.PathLen = uint32(copy(r.PathBuf[:], text))
		copy(r.PathBuf[r.PathLen:], behind)
		b, _ := factPath.of(&r)

		whole := uint64(hashStart)
		for from := 0; from < len(b); {
			part, to := component(b, from)
			if want := strings.IndexByte(text[from:]+"/", '/'); to-from != want {
				t.Fatalf("the component at %d has %d bytes, want %d", from, to-from, want)
			}
			p := beginning{b: b, at: from, hash: hashStart}
			for n := from + 1; n <= to; n++ {
				if rapid.Bool().Draw(t, "look") && p.upTo(n) != hashPart(text[from:n]) {
					t.Fatalf("the beginning %q has another hash in the pass", text[from:n])
				}
			}
			if part != hashPart(text[from:to]) {
				t.Fatalf("the component %q has another hash in the pass", text[from:to])
			}
			if whole = join(whole, part); whole != hashText(text[:min(to+1, len(text))]) {
				t.Fatalf("%q has another hash in the pass", text[:min(to+1, len(text))])
			}
			from = to + 1
		}
	})
}

// TestTextHashApart has texts that differ by little, which must not be filed as one.
func TestTextHashApart(t *testing.T) {
	seen := map[uint64]string{}
	for _, s := range []string{"", "a", "/a", "//a", "a/b", "ab", "a//b", "\x00", "a\x00", "a\x00\x00", "/",
		"aaaaaaa", "aaaaaaaa", "aaaaaaaaa", "aaaaaaaa\x00", "aaaaaaa\x00", "aaaaaaaaaaaaaaaa"} {
		if other, ok := seen[hashText(s)]; ok {
			t.Errorf("%q and %q have the same hash", s, other)
		}
		seen[hashText(s)] = s
	}
}

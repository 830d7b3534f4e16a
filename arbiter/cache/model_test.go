// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/arbiterd/arbiter/rules"
)

// model is a cache without limits. It knows of each set in which order its keys
// were put first, as only the last few of them must still be there.
type model struct {
	known map[string]rules.Decision
	order map[uint64][]string // by set, first put last
}

// Any sequence of operations, with hashes that collide on purpose: what is found is
// what was put last under the rule set, and what must be there is found.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := New(rapid.SampledFrom([]int{1, 4, 8, 16}).Draw(t, "entries"), rapid.Uint64().Draw(t, "seed"))
		number := uint64(1)
		m := model{map[string]rules.Decision{}, map[uint64][]string{}}
		// The hash is a function of the key, and a poor one.
		poor := rapid.Uint64Range(0, 3).Draw(t, "hashes")
		hashOf := func(key string) uint64 { return (uint64(len(key)) & poor) << 62 }
		keys := rapid.OneOf(rapid.StringMatching(`[ab\x00]{0,5}`),
			rapid.SampledFrom([]string{string(make([]byte, KeyBytes)), string(make([]byte, KeyBytes+1))}))
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key, d := keys.Draw(t, "key"), decision(rapid.IntRange(0, 1000).Draw(t, "rule"))
				kept := c.Put([]byte(key), hashOf(key), number, d)
				if kept != (len(key) <= KeyBytes) {
					t.Fatalf("a key of %d bytes was kept: %t", len(key), kept)
				}
				if !kept {
					return
				}
				set := c.set(hashOf(key))
				if _, there := get(c, []byte(key), hashOf(key), number); !there {
					t.Fatalf("%q is not there after it was put", key)
				}
				if m.holds(set, key) == 0 {
					m.order[set] = append(m.order[set], key)
				}
				m.known[key] = d
			},
			"get": func(t *rapid.T) { m.check(t, c, number, keys.Draw(t, "key"), hashOf) },
			"another rule set": func(t *rapid.T) {
				number++
				clear(m.known)
				clear(m.order)
			},
			"": func(t *rapid.T) {
				for key := range m.known {
					m.check(t, c, number, key, hashOf)
				}
			},
		})
	})
}

// holds says how recently the key came into its set: 1 is the last, 0 means that it
// may be gone or never came.
func (m *model) holds(set uint64, key string) int {
	o := m.order[set]
	for i := range min(len(o), ways) {
		if o[len(o)-1-i] == key {
			return i + 1
		}
	}
	return 0
}

func (m *model) check(t *rapid.T, c *Cache, number uint64, key string, hashOf func(string) uint64) {
	hash := hashOf(key)
	d, ok := get(c, []byte(key), hash, number)
	want, known := m.known[key]
	must := m.holds(c.set(hash), key) != 0
	switch {
	case ok && !known:
		t.Fatalf("%q is found with rule %d, and was not put under this rule set", key, d.Rule)
	case ok && d != want:
		t.Fatalf("%q has rule %d, want that of the last put, %d", key, d.Rule, want.Rule)
	case ok != must:
		t.Fatalf("%q is there: %t, want %t: its set got %q", key, ok, must, m.order[c.set(hash)])
	}
}

// FuzzCollision puts two keys under one hash into one set, after each other and with
// a third one between: no key ever has the verdict of another.
func FuzzCollision(f *testing.F) {
	f.Add([]byte("/a"), []byte("/b"), uint64(0))
	f.Add([]byte(""), []byte("\x00"), ^uint64(0))
	f.Add(make([]byte, KeyBytes), make([]byte, KeyBytes+1), uint64(1))
	f.Add(make([]byte, KeyBytes), make([]byte, KeyBytes-1), uint64(1))
	c := New(4, 0)
	number := uint64(0)
	f.Fuzz(func(t *testing.T, a, b []byte, hash uint64) {
		number++
		rule := map[string]int32{}
		for i, key := range [][]byte{a, b, a} {
			if c.Put(key, hash, number, decision(i)) {
				rule[string(key)] = int32(i)
			}
			for _, k := range [][]byte{a, b} {
				want, there := rule[string(k)]
				if d, ok := get(c, k, hash, number); ok != there || ok && d.Rule != want {
					t.Errorf("%q has rule %d, %t; want %d, %t", k, d.Rule, ok, want, there)
				}
			}
		}
	})
}

// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/arbiterd/arbiter/rules"
)

// decision returns a decision that is told apart by n.
func decision(n int) rules.Decision { return rules.Decision{Rule: int32(n)} }

// put stores under the key's own hash.
func put(t *testing.T, c *Cache, key []byte, d rules.Decision) {
	t.Helper()
	_, hash, _ := c.Get(key)
	if !c.Put(key, hash, d) {
		t.Errorf("a key of %d bytes was not kept", len(key))
	}
}

// check requires what Get says of a key.
func check(t *testing.T, c *Cache, key []byte, want rules.Decision, wantOK bool) {
	t.Helper()
	if got, _, ok := c.Get(key); got != want || ok != wantOK {
		t.Errorf("Get(%.40q) = rule %d, %t, want rule %d, %t", key, got.Rule, ok, want.Rule, wantOK)
	}
}

func TestNew(t *testing.T) {
	for _, tc := range []struct{ entries, want int }{{1, 4}, {4, 4}, {5, 8}, {8, 8}, {9, 16}, {1000, 1024}, {1024, 1024}, {1025, 2048}} {
		c := New(tc.entries, 1)
		if last := c.set(^uint64(0)); len(c.entries) != tc.want || len(c.victim)*ways != tc.want || last+1 != uint64(tc.want/ways) {
			t.Errorf("New(%d) has %d entries in %d sets, the last is %d, want %d entries", tc.entries, len(c.entries), len(c.victim), last, tc.want)
		}
		check(t, c, nil, rules.Decision{}, false)
		check(t, c, []byte("k"), rules.Decision{}, false)
	}
}

func TestGetPut(t *testing.T) {
	c := New(64, 7)
	d := rules.Decision{Verdict: rules.Verdict{Action: rules.Deny, Errno: 13}, Rule: 4, Deadline: 9, OnFail: rules.Verdict{Errno: 1}}
	keys := [][]byte{{}, {0}, {0, 0}, []byte("/usr/bin/true"), []byte("/usr/bin/true\x00"), bytes.Repeat([]byte{0xff}, KeyBytes)}
	for i, k := range keys {
		check(t, c, k, rules.Decision{}, false)
		d.Rule = int32(i)
		put(t, c, k, d)
	}
	for i, k := range keys {
		d.Rule = int32(i)
		check(t, c, k, d, true)
	}
	// The key is copied, not kept.
	k := []byte("changed by its owner")
	put(t, c, k, d)
	check(t, c, bytes.Clone(k), d, true)
	k[0]++
	check(t, c, k, rules.Decision{}, false)
}

func TestPutReplaces(t *testing.T) {
	c := New(64, 7)
	key := []byte("the same")
	for i := range 20 {
		put(t, c, key, decision(i))
		check(t, c, key, decision(i), true)
	}
	if n := live(c); n != 1 {
		t.Errorf("one key takes %d entries, want 1", n)
	}
}

// live counts the entries that Get can find.
func live(c *Cache) (n int) {
	for i := range c.entries {
		if c.entries[i].epoch == c.epoch {
			n++
		}
	}
	return n
}

// Requesters choose paths and may find two with the same hash. Each has its own
// verdict, whatever they differ in.
func TestEqualHashes(t *testing.T) {
	for _, tc := range []struct {
		name string
		a, b string
	}{
		{"another byte", "/tmp/a", "/tmp/b"},
		{"one is the beginning of the other", "/tmp/a", "/tmp/ab"},
		{"a zero byte more", "/tmp/a", "/tmp/a\x00"},
		{"one is empty", "", "/"},
		{"the last byte of the longest", string(make([]byte, KeyBytes)), string(make([]byte, KeyBytes-1)) + "x"},
		{"shorter after longer", "/tmp/longer", "/tmp/long"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, hash := range []uint64{0, 1, 1<<64 - 1} {
				c := New(4, 0)
				a, b := []byte(tc.a), []byte(tc.b)
				c.Put(a, hash, decision(1))
				if d, _, ok := c.get(b, hash); ok {
					t.Errorf("hash %#x: %q has the verdict of %q, rule %d", hash, b, a, d.Rule)
				}
				c.Put(b, hash, decision(2))
				for _, want := range []struct {
					key  []byte
					rule int32
				}{{a, 1}, {b, 2}} {
					if d, _, ok := c.get(want.key, hash); !ok || d.Rule != want.rule {
						t.Errorf("hash %#x: %q has rule %d, %t, want rule %d", hash, want.key, d.Rule, ok, want.rule)
					}
				}
			}
		})
	}
}

// An entry whose place is used again by a shorter key has the rest of the longer
// one in it.
func TestReusedPlace(t *testing.T) {
	c := New(4, 0)
	for i := range 4 {
		c.Put(bytes.Repeat([]byte{byte('a' + i)}, KeyBytes), 3, decision(i))
	}
	c.Put([]byte("aa"), 3, decision(9))
	for n := range KeyBytes + 1 {
		key := bytes.Repeat([]byte{'a'}, n)
		if d, _, ok := c.get(key, 3); ok != (n == 2) || ok && d.Rule != 9 {
			t.Errorf("%d bytes: rule %d, %t, want only two bytes to be found", n, d.Rule, ok)
		}
	}
}

func TestFlush(t *testing.T) {
	c := New(64, 7)
	for round := range 5 {
		for i := range 10 {
			put(t, c, fmt.Append(nil, "key", i), decision(100*round+i))
		}
		check(t, c, []byte("key3"), decision(100*round+3), true)
		c.Flush()
		for i := range 10 {
			check(t, c, fmt.Append(nil, "key", i), rules.Decision{}, false)
		}
		if n := live(c); n != 0 {
			t.Errorf("%d entries after a flush, want none", n)
		}
	}
}

// The epoch counter wraps after 2^32 flushes. Entries of the epochs that come again,
// and entries that were never used, stay dead.
func TestFlushWraps(t *testing.T) {
	c := New(64, 7)
	old := [][]byte{[]byte("of epoch 1"), []byte("of epoch 2")}
	put(t, c, old[0], decision(1))
	c.Flush()
	put(t, c, old[1], decision(2))
	c.epoch = 1<<32 - 1 // after 2^32 - 3 more flushes
	last := []byte("of the last epoch")
	put(t, c, last, decision(3))
	check(t, c, last, decision(3), true)
	for range 5 {
		c.Flush()
		if c.epoch == 0 {
			t.Fatal("the epoch is 0, which is that of entries never used")
		}
		for _, k := range append(old, last, nil) {
			check(t, c, k, rules.Decision{}, false)
		}
	}
	put(t, c, old[0], decision(4))
	check(t, c, old[0], decision(4), true)
}

func TestLongKeys(t *testing.T) {
	c := New(64, 7)
	for _, n := range []int{KeyBytes + 1, KeyBytes + 2, 2 * KeyBytes, 8300} {
		key := bytes.Repeat([]byte{'k'}, n)
		_, hash, _ := c.Get(key)
		if c.Put(key, hash, decision(1)) {
			t.Errorf("a key of %d bytes was kept, at most %d fit", n, KeyBytes)
		}
		check(t, c, key, rules.Decision{}, false)
	}
	if n := live(c); n != 0 {
		t.Errorf("%d entries, want none", n)
	}
	// The beginning of a long key is not its key.
	key := bytes.Repeat([]byte{'k'}, KeyBytes)
	put(t, c, key, decision(2))
	check(t, c, append(key, 'k'), rules.Decision{}, false)
	check(t, c, key, decision(2), true)
}

// However many keys come, the memory is what New took, and what is there is right.
func TestEviction(t *testing.T) {
	const entries, keys = 64, 10_000
	c := New(entries, 7)
	at := &c.entries[0]
	for i := range keys {
		key := binary.LittleEndian.AppendUint64(nil, uint64(i))
		put(t, c, key, decision(i))
		check(t, c, key, decision(i), true)
	}
	found := 0
	for i := range keys {
		if d, _, ok := c.Get(binary.LittleEndian.AppendUint64(nil, uint64(i))); ok {
			found++
			if d != decision(i) {
				t.Errorf("key %d has the decision of %d", i, d.Rule)
			}
		}
	}
	if found > entries || found < entries/2 {
		t.Errorf("%d of %d keys are found, want about %d", found, keys, entries)
	}
	if len(c.entries) != entries || at != &c.entries[0] {
		t.Errorf("the cache has %d entries, in the same place: %t", len(c.entries), at == &c.entries[0])
	}
}

// In one set the oldest goes first, and an outdated entry before any live one.
func TestVictims(t *testing.T) {
	c := New(4, 0)
	name := func(i int) []byte { return []byte{byte(i)} }
	there := func(want ...int) {
		t.Helper()
		var got []int
		for i := range 20 {
			if _, _, ok := c.get(name(i), 0); ok {
				got = append(got, i)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the set has %v, want %v", got, want)
		}
	}
	for i := range 6 {
		c.Put(name(i), 0, decision(i))
	}
	there(2, 3, 4, 5)
	c.Put(name(6), 0, decision(6))
	there(3, 4, 5, 6)
	c.Flush()
	for i := 7; i < 11; i++ {
		c.Put(name(i), 0, decision(i))
	}
	there(7, 8, 9, 10)
}

// The seed decides where a key falls: who knows the hash without it knows nothing.
func TestSeed(t *testing.T) {
	a, b := New(1024, 0x9e3779b97f4a7c15), New(1024, 0xc2b2ae3d27d4eb4f)
	same := 0
	const keys = 100
	for i := range keys {
		key := fmt.Append(nil, "/usr/bin/", i)
		_, x, _ := a.Get(key)
		_, y, _ := b.Get(key)
		if x == y {
			t.Errorf("%s has one hash under two seeds", key)
		}
		if a.set(x) == b.set(y) {
			same++
		}
	}
	if same > keys/10 {
		t.Errorf("%d of %d keys fall into the same set under two seeds", same, keys)
	}
}

// A size that does not fit is cut, and its computation ends.
func TestSizeIsBounded(t *testing.T) {
	for _, entries := range []int{MaxEntries, MaxEntries + 1, 1 << 61, math.MaxInt} {
		if sets, shift := size(entries); sets*ways != MaxEntries || 1<<(64-shift) != sets {
			t.Errorf("size(%d): %d sets, shift %d; want %d entries", entries, sets, shift, MaxEntries)
		}
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{"": true, "unknown": true}
	for r := range ReasonCount {
		if n := r.String(); seen[n] {
			t.Errorf("reason %d has the name %q, want one of its own", r, n)
		} else {
			seen[n] = true
		}
	}
	if got := ReasonCount.String(); got != "unknown" {
		t.Errorf("a reason that is none has the name %q, want unknown", got)
	}
}

func TestAllocatesNothing(t *testing.T) {
	c := New(1024, 7)
	key := make([]byte, 100)
	n := uint64(0)
	if got := testing.AllocsPerRun(1000, func() {
		n++
		binary.LittleEndian.PutUint64(key, n%3000) // hits, misses and evictions
		if _, hash, ok := c.Get(key); !ok {
			c.Put(key, hash, decision(1))
		}
		if n%500 == 0 {
			c.Flush()
		}
	}); got != 0 {
		t.Errorf("%v allocations per Get and Put, want none", got)
	}
	// Nothing in an entry is the collector's business.
	for i := range reflect.TypeFor[entry]().NumField() {
		f := reflect.TypeFor[entry]().Field(i)
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.String, reflect.Map, reflect.Interface:
			t.Errorf("entry.%s is a %s, want no pointer in an entry", f.Name, f.Type)
		}
	}
}

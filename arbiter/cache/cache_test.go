// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/rules"
)

// decision returns a decision that is told apart by n.
func decision(n int) rules.Decision { return rules.Decision{Rule: int32(n)} }

// number is that of the rule set of most tests.
const number = 3

// get is Get by a hash of the test's own.
func get(c *Cache, key []byte, hash, number uint64) (rules.Decision, bool) {
	e, _ := c.find(key, hash, number)
	if e == nil {
		return rules.Decision{}, false
	}
	return e.decision(), true
}

// put stores under the key's own hash.
func put(t *testing.T, c *Cache, key []byte, d rules.Decision) {
	t.Helper()
	_, hash, _ := c.Get(key, number)
	if !c.Put(key, hash, number, d) {
		t.Errorf("a key of %d bytes was not kept", len(key))
	}
}

// check requires what Get says of a key.
func check(t *testing.T, c *Cache, key []byte, want rules.Decision, wantOK bool) {
	t.Helper()
	if got, _, ok := c.Get(key, number); got != want || ok != wantOK {
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

// live counts the entries that are used.
func live(c *Cache) (n int) {
	for i := range c.entries {
		if c.entries[i].number.Load() != 0 {
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
				c.Put(a, hash, number, decision(1))
				if d, ok := get(c, b, hash, number); ok {
					t.Errorf("hash %#x: %q has the verdict of %q, rule %d", hash, b, a, d.Rule)
				}
				c.Put(b, hash, number, decision(2))
				for _, want := range []struct {
					key  []byte
					rule int32
				}{{a, 1}, {b, 2}} {
					if d, ok := get(c, want.key, hash, number); !ok || d.Rule != want.rule {
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
		c.Put(bytes.Repeat([]byte{byte('a' + i)}, KeyBytes), 3, number, decision(i))
	}
	c.Put([]byte("aa"), 3, number, decision(9))
	for n := range KeyBytes + 1 {
		key := bytes.Repeat([]byte{'a'}, n)
		if d, ok := get(c, key, 3, number); ok != (n == 2) || ok && d.Rule != 9 {
			t.Errorf("%d bytes: rule %d, %t, want only two bytes to be found", n, d.Rule, ok)
		}
	}
}

// What was decided by one rule set is not found under another one, whichever of two workers is the first
// to have it.
func TestRuleSets(t *testing.T) {
	c := New(64, 7)
	key := []byte("the same key")
	for n := uint64(1); n < 6; n++ {
		if d, hash, ok := c.Get(key, n); ok {
			t.Errorf("rule set %d has rule %d, and has decided nothing", n, d.Rule)
		} else if !c.Put(key, hash, n, decision(int(n))) {
			t.Error("a key was not kept")
		}
		for m := n; m > 0; m-- {
			if d, _, ok := c.Get(key, m); ok && d.Rule != int32(m) || m == n && !ok {
				t.Errorf("rule set %d of %d: got rule %d, %t", m, n, d.Rule, ok)
			}
		}
	}
}

// Each field of a decision comes back, but Once, which is not kept.
func TestDecisionIsWhole(t *testing.T) {
	c := New(64, 7)
	d := rules.Decision{Verdict: rules.Verdict{Action: 0xa1, Errno: 0xb2c3}, Rule: -0x12345678, Deadline: 0x1122334455667788,
		OnFail: rules.Verdict{Action: 0xd4, Errno: 0xe5f6}}
	v := reflect.ValueOf(d)
	for i := range v.NumField() {
		if v.Field(i).IsZero() != (v.Type().Field(i).Name == "Once") {
			t.Errorf("the test has no value for %s", v.Type().Field(i).Name)
		}
	}
	for n := range KeyBytes + 1 {
		key := bytes.Repeat([]byte{0xff}, n)
		put(t, c, key, d)
		check(t, c, key, d, true)
	}
	d.Once = true
	if c.Put([]byte("k"), 1, number, d) {
		t.Error("a decision that is made once was kept")
	}
}

// An entry that somebody writes has nothing for others, who leave it alone.
func TestWhileWritten(t *testing.T) {
	c := New(4, 0)
	key := []byte("k")
	put(t, c, key, decision(1))
	_, hash, _ := c.Get(key, number)
	e, version := c.find(key, hash, number)
	e.version.Store(version + 1)
	check(t, c, key, rules.Decision{}, false)
	for i := range ways - 1 { // all others
		c.Put([]byte{byte(i)}, hash, number, decision(2))
	}
	for range 2 * ways {
		c.Put([]byte("another"), hash, number, decision(3))
	}
	if got := e.decision(); got.Rule != 1 || e.version.Load() != version+1 {
		t.Errorf("the entry has rule %d, version %d, want it left alone", got.Rule, e.version.Load())
	}
	e.version.Store(version + 2)
	check(t, c, key, decision(1), true)
}

// Workers that read and write the same few places at once find what belongs to the key and the
// rule set, or nothing.
func TestConcurrent(t *testing.T) {
	c := New(8, 7)
	keyOf := func(n uint64) []byte { return bytes.Repeat(binary.LittleEndian.AppendUint64(nil, n%13), int(n%13)+1) }
	of := func(n, set uint64) rules.Decision {
		v := n%13 | set<<4
		return rules.Decision{Verdict: rules.Verdict{Action: rules.Action(v), Errno: uint16(v)}, Rule: int32(v), Deadline: time.Duration(v),
			OnFail: rules.Verdict{Action: rules.Action(v), Errno: uint16(v)}}
	}
	var hits atomic.Uint64
	var wg sync.WaitGroup
	for w := range uint64(4) {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(w, 1))
			for range 50_000 {
				n, set := random.Uint64(), 1+random.Uint64N(3)
				d, hash, ok := c.Get(keyOf(n), set)
				if !ok {
					c.Put(keyOf(n), hash, set, of(n, set))
				} else if hits.Add(1); d != of(n, set) {
					t.Errorf("key %d of rule set %d has %+v", n%13, set, d)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := hits.Load(); n < 100 {
		t.Errorf("%d hits, want more", n)
	}
}

func TestLongKeys(t *testing.T) {
	c := New(64, 7)
	for _, n := range []int{KeyBytes + 1, KeyBytes + 2, 2 * KeyBytes, 8300} {
		key := bytes.Repeat([]byte{'k'}, n)
		_, hash, _ := c.Get(key, number)
		if c.Put(key, hash, number, decision(1)) {
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
		if d, _, ok := c.Get(binary.LittleEndian.AppendUint64(nil, uint64(i)), number); ok {
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

// In one set the oldest goes first, and an entry of an older rule set before any other.
func TestVictims(t *testing.T) {
	c := New(4, 0)
	name := func(i int) []byte { return []byte{byte(i)} }
	there := func(number uint64, want ...int) {
		t.Helper()
		var got []int
		for i := range 20 {
			if _, ok := get(c, name(i), 0, number); ok {
				got = append(got, i)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("the set has %v, want %v", got, want)
		}
	}
	for i := range 6 {
		c.Put(name(i), 0, number, decision(i))
	}
	there(number, 2, 3, 4, 5)
	c.Put(name(6), 0, number, decision(6))
	there(number, 3, 4, 5, 6)
	c.Put(name(7), 0, number+1, decision(7))
	there(number+1, 7)
	c.Put(name(8), 0, number, decision(8)) // a worker that is behind
	there(number+1, 7)
	for i := 9; i < 12; i++ {
		c.Put(name(i), 0, number+1, decision(i))
	}
	there(number)
	there(number+1, 7, 9, 10, 11)
}

// The seed decides where a key falls: who knows the hash without it knows nothing.
func TestSeed(t *testing.T) {
	a, b := New(1024, 0x9e3779b97f4a7c15), New(1024, 0xc2b2ae3d27d4eb4f)
	same := 0
	const keys = 100
	for i := range keys {
		key := fmt.Append(nil, "/usr/bin/", i)
		_, x, _ := a.Get(key, number)
		_, y, _ := b.Get(key, number)
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
		set := n/500 + 1
		if _, hash, ok := c.Get(key, set); !ok {
			c.Put(key, hash, set, decision(1))
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

// SPDX-License-Identifier: Apache-2.0

// Package cache is the verdict cache of the workers: what one has decided the others
// need not. Fixed memory, no lock, no allocation after New, the whole key compared.
//
// The requester chooses paths and so has a say in the hash: a hash only finds
// the place, the key is the identity (see Get).
package cache

import (
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/arbiterd/arbiter/rules"
)

const (
	// KeyBytes is the longest key that is kept. Measured on a Debian system,
	// 99 % of the paths under /usr are below 120 bytes; a key with path and exe
	// fits.
	KeyBytes = 232
	// MaxEntries is the most that New makes: some 300 MB.
	MaxEntries = 1 << 20
	// ways is how many entries share a place.
	ways = 4
)

// Reason says why what the cache had was worth nothing any more. Each is a metric label.
type Reason uint8

// The reasons.
const (
	Start       Reason = iota // the first rule set
	RulesPushed               // a new rule set was pushed
	RolledBack                // an older rule set was brought back
	Reloaded                  // the rule file was read again
	TimeCame                  // the time of a rule began or ended
	Told                      // records tell of other process trees, for a candidate
	ReasonCount
)

var reasonNames = [ReasonCount]string{"start", "rules_pushed", "rolled_back", "reloaded", "time_came", "told"}

// String returns the reason as metrics write it.
func (r Reason) String() string {
	if r < ReasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// entry is one decision. It holds no pointer, so the collector of garbage never looks at it.
//
// It is a sequence lock (Boehm, "Can seqlocks get along with programming language memory models?",
// 2012) whose writers do not wait: version is odd while one writes, and others let the entry be.
// Who reads looks at version before and after: what was read in between is one decision, and its key.
type entry struct {
	version atomic.Uint64
	hash    atomic.Uint64
	number  atomic.Uint64 // of the rule set, 0: never used
	// verdict is keyLen, OnFail and Verdict; see pack.
	verdict, rule, deadline atomic.Uint64
	key                     bytesOfKey
}

// Cache maps keys to decisions, for each rule set by itself. Its methods may be called
// concurrently.
type Cache struct {
	seed    uint64 // odd
	shift   uint   // 64 - log2(sets)
	entries []entry
	victim  []atomic.Uint32 // per set: the next way to replace
}

// New returns an empty cache of at least the given number of entries, rounded up
// to a power of two, at least 4 and at most MaxEntries. The seed should be random, so that nobody can
// choose paths that fall into one place.
func New(entries int, seed uint64) *Cache {
	sets, shift := size(entries)
	return &Cache{seed: seed | 1, shift: shift, entries: make([]entry, sets*ways), victim: make([]atomic.Uint32, sets)}
}

// size returns how many sets a cache of that many entries has, and its shift.
func size(entries int) (sets int, shift uint) {
	sets, shift = 1, 64
	for sets*ways < min(entries, MaxEntries) {
		sets, shift = sets*2, shift-1
	}
	return sets, shift
}

// Get returns the decision stored for exactly this key under the rule set with that number, and
// the key's hash, to be handed to Put on a miss. One that is being replaced may be missed.
//
//go:nosplit
func (c *Cache) Get(key []byte, number uint64) (d rules.Decision, hash uint64, ok bool) {
	// Multiply-shift hashing (Dietzfelbinger and others, 1997): for a random odd seed
	// two given checksums fall into the same set with a chance of at most 2/sets. A
	// seed within xxhash would cost three times as much and promise less.
	hash = xxhash.Sum64(key) * c.seed
	e, version := c.find(key, hash, number)
	if e == nil {
		return d, hash, false
	}
	d = e.decision()
	return d, hash, e.version.Load() == version // else another one is there by now
}

// set returns the index of the set in which a hash belongs.
//
//go:nosplit
func (c *Cache) set(hash uint64) uint64 { return hash >> c.shift }

// find returns the entry of exactly this key, and its version then; nil when there is none.
//
//go:nosplit
func (c *Cache) find(key []byte, hash, number uint64) (*entry, uint64) {
	set := c.set(hash) * ways
	for i := set; i < set+ways; i++ {
		e := &c.entries[i]
		version := e.version.Load()
		if e.hash.Load() == hash && e.number.Load() == number && version&1 == 0 && e.has(key) {
			return e, version
		}
	}
	return nil, 0
}

// has reports whether the entry's key is this one.
//
//go:nosplit
func (e *entry) has(key []byte) bool {
	return e.verdict.Load()>>48 == uint64(len(key)) && len(key) <= KeyBytes && e.key.begins(key)
}

// pack is what decision unpacks. Each part has a place of its own size.
func (e *entry) pack(d *rules.Decision, keyLen int) {
	e.verdict.Store(uint64(d.Verdict.Action) | uint64(d.Verdict.Errno)<<8 |
		uint64(d.OnFail.Action)<<24 | uint64(d.OnFail.Errno)<<32 | uint64(keyLen)<<48)
	e.rule.Store(uint64(uint32(d.Rule)))
	e.deadline.Store(uint64(d.Deadline))
}

//go:nosplit
func (e *entry) decision() (d rules.Decision) {
	v := e.verdict.Load()
	d.Verdict = rules.Verdict{Action: rules.Action(v), Errno: uint16(v >> 8)}
	d.OnFail = rules.Verdict{Action: rules.Action(v >> 24), Errno: uint16(v >> 32)}
	d.Rule = int32(e.rule.Load())
	d.Deadline = time.Duration(e.deadline.Load())
	return d
}

// Put stores a decision of the rule set with that number, which must not be 0, under the key and the hash
// that Get returned for it, in place of the one that was there. False: it cannot be kept, as its key is too long or
// it decides once. It may drop another entry, and where another worker is writing it is dropped itself.
func (c *Cache) Put(key []byte, hash, number uint64, d rules.Decision) bool {
	if len(key) > KeyBytes || d.Once {
		return false
	}
	e, version := c.find(key, hash, number)
	if e == nil {
		e, version = c.place(c.set(hash), number)
	}
	if version&1 != 0 || !e.version.CompareAndSwap(version, version+1) {
		return true
	}
	e.hash.Store(hash)
	e.number.Store(number)
	e.pack(&d, len(key))
	e.key.store(key)
	e.version.Store(version + 2)
	return true
}

// place returns the entry of a set to use next, and its version: one of an older rule set, else
// the one that was placed first.
func (c *Cache) place(set, number uint64) (*entry, uint64) {
	way := uint64(c.victim[set].Load() % ways)
	for i := range uint64(ways) {
		if e := &c.entries[set*ways+i]; e.number.Load() < number && e.version.Load()&1 == 0 {
			way = i
			break
		}
	}
	c.victim[set].Store(uint32(way) + 1)
	e := &c.entries[set*ways+way]
	return e, e.version.Load()
}

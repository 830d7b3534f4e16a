// SPDX-License-Identifier: Apache-2.0

// Package cache is the verdict cache of one worker: fixed memory, no allocation
// after New, the whole key compared, flushed in O(1) for a named reason.
//
// The requester chooses paths and so has a say in the hash: a hash only finds
// the place, the key is the identity (see Get).
package cache

import (
	"bytes"

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

// Reason says why a cache was flushed. Each is a metric label.
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

// entry holds no pointer, so the collector of garbage never looks at it.
type entry struct {
	hash     uint64
	epoch    uint32 // valid only if it is the cache's; 0 never is
	keyLen   uint32
	decision rules.Decision
	key      [KeyBytes]byte
}

// Cache maps keys to decisions. It belongs to one worker: not safe for
// concurrent use.
type Cache struct {
	seed    uint64 // odd
	epoch   uint32
	shift   uint // 64 - log2(sets)
	entries []entry
	victim  []uint8 // per set: the next way to replace
}

// New returns an empty cache of at least the given number of entries, rounded up
// to a power of two, at least 4 and at most MaxEntries. The seed should be random, so that nobody can
// choose paths that fall into one place.
func New(entries int, seed uint64) *Cache {
	sets, shift := size(entries)
	return &Cache{seed: seed | 1, epoch: 1, shift: shift, entries: make([]entry, sets*ways), victim: make([]uint8, sets)}
}

// size returns how many sets a cache of that many entries has, and its shift.
func size(entries int) (sets int, shift uint) {
	sets, shift = 1, 64
	for sets*ways < min(entries, MaxEntries) {
		sets, shift = sets*2, shift-1
	}
	return sets, shift
}

// Get returns the decision stored for exactly this key since the last flush,
// and the key's hash, to be handed to Put on a miss.
//
//go:nosplit
func (c *Cache) Get(key []byte) (d rules.Decision, hash uint64, ok bool) {
	// Multiply-shift hashing (Dietzfelbinger and others, 1997): for a random odd seed
	// two given checksums fall into the same set with a chance of at most 2/sets. A
	// seed within xxhash would cost three times as much and promise less.
	hash = xxhash.Sum64(key) * c.seed
	return c.get(key, hash)
}

// set returns the index of the set in which a hash belongs.
//
//go:nosplit
func (c *Cache) set(hash uint64) uint64 { return hash >> c.shift }

//go:nosplit
func (c *Cache) get(key []byte, hash uint64) (rules.Decision, uint64, bool) {
	if e := c.find(key, hash); e != nil {
		return e.decision, hash, true
	}
	return rules.Decision{}, hash, false
}

// find returns the live entry of exactly this key, nil when there is none.
//
//go:nosplit
func (c *Cache) find(key []byte, hash uint64) *entry {
	set := c.set(hash) * ways
	for i := set; i < set+ways; i++ {
		e := &c.entries[i]
		if e.hash == hash && e.epoch == c.epoch && bytes.Equal(e.key[:e.keyLen], key) {
			return e
		}
	}
	return nil
}

// Put stores a decision under the key and the hash that Get returned for it, in
// place of the one that was there. False when the key is too long to be kept. It
// may drop another entry.
func (c *Cache) Put(key []byte, hash uint64, d rules.Decision) bool {
	if len(key) > KeyBytes {
		return false
	}
	e := c.find(key, hash)
	if e == nil {
		e = c.place(c.set(hash))
	}
	e.hash, e.epoch, e.keyLen, e.decision = hash, c.epoch, uint32(len(key)), d
	copy(e.key[:], key)
	return true
}

// place returns the entry of a set to use next: one that is empty or outdated,
// else the one that was placed first.
func (c *Cache) place(set uint64) *entry {
	way := uint64(c.victim[set] % ways)
	for i := uint64(0); i < ways; i++ {
		if c.entries[set*ways+i].epoch != c.epoch {
			way = i
			break
		}
	}
	c.victim[set] = uint8(way) + 1
	return &c.entries[set*ways+way]
}

// Flush forgets everything, in constant time.
func (c *Cache) Flush() {
	c.epoch++
	if c.epoch == 0 { // after 2^32 flushes old entries would come back to life
		clear(c.entries)
		c.epoch = 1
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// How texts are hashed. A component, what is between two slashes, is hashed eight bytes at a
// time; a text is what its components come to, one after another. So the hashes of all
// directories that a path is in, and of the path, come out of one pass over it, in which no
// byte waits for the one before it.
//
//	hashPart(c)          c₀₋₇, c₈₋₁₅, …, the rest with its length: mixed into hashStart
//	hashText("a/b/c")    hashStart, joined with "a", with "b", with "c"
//	hashText("a/b/")     hashStart, joined with "a", with "b": the same as that of "a/b", but
//	                     beginnings that end in a slash have a table of their own
const hashStart = 0x9ae16a3b2f90404f

// mix is a folded multiplication, as in wyhash: https://github.com/wangyi-fudan/wyhash.
func mix(h, w uint64) uint64 {
	high, low := bits.Mul64(h^w, 0xa0761d6478bd642f)
	return high ^ low
}

// join makes the hash of a text longer by that of a component.
func join(text, part uint64) uint64 { return mix(text, part^0xe7037ed1a0b428db) }

// rest is how the last bytes of a component are mixed in: fewer than eight of them, n, are the
// lowest of w, and the highest byte says how many they are.
func rest(w uint64, n int) uint64 { return w&(1<<(8*uint(n)%64)-1) | uint64(n)<<56 }

// load returns the eight bytes from b[i] on, the first one lowest. What is behind the capacity
// of b is 0.
func load(b []byte, i int) uint64 {
	if i+8 <= cap(b) {
		return binary.LittleEndian.Uint64(b[i : i+8])
	}
	var end [8]byte
	copy(end[:], b[min(i, cap(b)):cap(b)])
	return binary.LittleEndian.Uint64(end[:])
}

// ones times c has c in each of its bytes.
const ones = 0x0101010101010101

// component hashes the component of b that begins at from, and returns where it ends: at a
// slash, or at the end of b.
func component(b []byte, from int) (hash uint64, to int) {
	hash, to = hashStart, from
	for {
		w := load(b, to)
		// The lowest of these bits is that of the first slash: Mycroft's test for a zero byte.
		x := w ^ ones*'/'
		stop := (x - ones) &^ x & (ones << 7)
		if left := len(b) - to; left < 8 {
			stop |= 0x80 << (8 * uint(left) % 64)
		}
		if stop != 0 {
			n := bits.TrailingZeros64(stop) / 8
			return mix(hash, rest(w, n)), to + n
		}
		hash = mix(hash, w)
		to += 8
	}
}

// beginning hashes beginnings of one component, which are asked for in rising order.
type beginning struct {
	b    []byte
	at   int    // how far hash has come, in whole words
	hash uint64 // of the words before at
}

// upTo returns the hash of what is before to.
func (p *beginning) upTo(to int) uint64 {
	for ; to-p.at >= 8; p.at += 8 {
		p.hash = mix(p.hash, load(p.b, p.at))
	}
	return mix(p.hash, rest(load(p.b, p.at), to-p.at))
}

// hashPart hashes a text without a slash.
func hashPart(s string) uint64 {
	hash, _ := component([]byte(s), 0)
	return hash
}

// hashText hashes any text.
func hashText(s string) uint64 {
	hash := uint64(hashStart)
	for {
		slash := strings.IndexByte(s, '/')
		if slash < 0 {
			break
		}
		hash = join(hash, hashPart(s[:slash]))
		s = s[slash+1:]
	}
	if s == "" {
		return hash
	}
	return join(hash, hashPart(s))
}

// An end is hashed from its last byte to its first: FNV-1a.
const (
	endStart = 14695981039346656037
	endPrime = 1099511628211
)

func endOn(h uint64, c byte) uint64 { return (h ^ uint64(c)) * endPrime }

func hashEnd(s string) uint64 {
	h := uint64(endStart)
	for i := len(s) - 1; i >= 0; i-- {
		h = endOn(h, s[i])
	}
	return h
}

// SPDX-License-Identifier: Apache-2.0

//go:build !amd64 || race

package cache

import (
	"encoding/binary"
	"sync/atomic"
)

// bytesOfKey is the key of an entry. Who compares one that is being written races by design: the
// version tells afterwards. For processors that do not keep loads in order, and for the race
// detector, which then reports every other race, keys go word by word through sync/atomic.
type bytesOfKey [KeyBytes / 8]atomic.Uint64

// begins reports whether the entry's key begins with key, which is not longer than KeyBytes.
//
//go:nosplit
func (b *bytesOfKey) begins(key []byte) bool {
	for i := range key {
		if byte(b[i/8].Load()>>(8*(uint(i)%8))) != key[i] {
			return false
		}
	}
	return true
}

// store writes a key over that of an entry that is ours to write.
func (b *bytesOfKey) store(key []byte) {
	for i := 0; i*8 < len(key); i++ {
		var word [8]byte
		copy(word[:], key[i*8:])
		b[i].Store(binary.LittleEndian.Uint64(word[:]))
	}
}

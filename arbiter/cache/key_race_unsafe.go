// SPDX-License-Identifier: Apache-2.0

//go:build race

package cache

import (
	"encoding/binary"
	"sync/atomic"
	"unsafe"
)

// Who compares a key that is being written races by design: the version tells afterwards. For the
// race detector keys go word by word through sync/atomic, so that it reports every other race.

// equal reports whether the entry's key begins with key, which is not longer.
//
//go:nosplit
func equal(at *[KeyBytes]byte, key []byte) bool {
	words := (*[KeyBytes / 8]uint64)(unsafe.Pointer(at))
	for i := range key {
		if byte(atomic.LoadUint64(&words[i/8])>>(8*(uint(i)%8))) != key[i] { // amd64: the lowest byte comes first
			return false
		}
	}
	return true
}

// store writes a key over that of an entry that is ours to write.
func store(at *[KeyBytes]byte, key []byte) {
	words := (*[KeyBytes / 8]uint64)(unsafe.Pointer(at))
	for i := 0; i*8 < len(key); i++ {
		var b [8]byte
		copy(b[:], key[i*8:])
		atomic.StoreUint64(&words[i], binary.LittleEndian.Uint64(b[:]))
	}
}

// SPDX-License-Identifier: Apache-2.0

//go:build amd64 && !race

package cache

// bytesOfKey is the key of an entry. It can change while it is compared: the version tells, for
// amd64 keeps loads in order. See key_words.go.
type bytesOfKey [KeyBytes]byte

// begins reports whether the entry's key begins with key, which is not longer than KeyBytes.
//
//go:nosplit
func (b *bytesOfKey) begins(key []byte) bool { return string(b[:len(key)]) == string(key) }

// store writes a key over that of an entry that is ours to write.
func (b *bytesOfKey) store(key []byte) { copy(b[:], key) }

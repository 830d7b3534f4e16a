// SPDX-License-Identifier: Apache-2.0

//go:build !race

package cache

// The key of an entry can change while it is compared: the version tells. See key_race_unsafe.go.

// equal reports whether the entry's key begins with key, which is not longer.
//
//go:nosplit
func equal(at *[KeyBytes]byte, key []byte) bool { return string(at[:len(key)]) == string(key) }

// store writes a key over that of an entry that is ours to write.
func store(at *[KeyBytes]byte, key []byte) { copy(at[:], key) }

// SPDX-License-Identifier: Apache-2.0

package veritytest

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"slices"
)

// blockBytes is the size of the blocks of data and of the tree.
const blockBytes = 4096

// Alg is a hash that fs-verity can use.
type Alg struct {
	name   string
	number uint8 // FS_VERITY_HASH_ALG_*
	make   func() hash.Hash
}

// The hashes.
var (
	SHA256 = Alg{"sha256", 1, sha256.New}
	SHA512 = Alg{"sha512", 2, sha512.New}
)

func (a Alg) sum(b []byte) []byte {
	h := a.make()
	h.Write(b) // never fails
	return h.Sum(nil)
}

// Digest returns the digest of a file with that content, without a salt, as "fsverity digest"
// prints it. It is written after Documentation/filesystems/fsverity.rst.
func Digest(content []byte, a Alg) string {
	root := make([]byte, a.make().Size()) // of no content: zeros
	for level := content; len(level) > 0; {
		var above []byte
		for block := range slices.Chunk(level, blockBytes) {
			padded := make([]byte, blockBytes)
			copy(padded, block)
			above = append(above, a.sum(padded)...)
		}
		if level = above; len(above) == len(root) {
			root, level = above, nil
		}
	}
	var d [256]byte                    // struct fsverity_descriptor
	d[0], d[1], d[2] = 1, a.number, 12 // version, hash, logarithm of the block's size
	binary.LittleEndian.PutUint64(d[8:], uint64(len(content)))
	copy(d[16:], root)
	return a.name + ":" + hex.EncodeToString(a.sum(d[:]))
}

// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"encoding/hex"
	"strings"
)

// VerityAlg is the hash that an fs-verity digest is made with.
type VerityAlg uint8

// The hashes that the kernel knows, and what takes the place of one.
const (
	VerityUnknown VerityAlg = iota // nobody has looked
	VerityNone                     // the file has no fs-verity digest
	VeritySHA256
	VeritySHA512
	VerityCount
)

var (
	verityNames = [VerityCount]string{VerityNone: "none", VeritySHA256: "sha256", VeritySHA512: "sha512"}
	veritySizes = [VerityCount]int{VeritySHA256: 32, VeritySHA512: 64}
)

// String returns the name of the hash as the tools of fs-verity write it, "" for VerityUnknown.
func (a VerityAlg) String() string {
	if a < VerityCount {
		return verityNames[a]
	}
	return "unknown"
}

// Size returns the length of such a digest in bytes, 0 for what is no hash.
func (a VerityAlg) Size() int {
	if a < VerityCount {
		return veritySizes[a]
	}
	return 0
}

// Verity is the fs-verity digest of a file, which the kernel keeps: that of a tree of hashes over
// its blocks. Two are the same digest exactly if they are equal.
type Verity struct {
	Alg VerityAlg
	Sum [64]byte // the first Alg.Size() bytes; the others are 0
}

// Bytes returns the digest; it is valid as long as v is.
func (v *Verity) Bytes() []byte { return v.Sum[:v.Alg.Size()] }

// String returns the digest as "fsverity digest" prints it, "none" or "".
func (v Verity) String() string {
	if v.Alg.Size() == 0 {
		return v.Alg.String()
	}
	return v.Alg.String() + ":" + hex.EncodeToString(v.Bytes())
}

// ParseVerity returns what String has written, with capital digits too, false for anything else
// and for "".
func ParseVerity(s string) (v Verity, ok bool) {
	name, digits, isDigest := strings.Cut(s, ":")
	for v.Alg = VerityNone; v.Alg < VerityCount; v.Alg++ {
		if verityNames[v.Alg] != name || isDigest != (v.Alg.Size() > 0) {
			continue
		}
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != v.Alg.Size() {
			break
		}
		copy(v.Sum[:], raw)
		return v, true
	}
	return Verity{}, false
}

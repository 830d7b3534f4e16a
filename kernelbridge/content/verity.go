// SPDX-License-Identifier: Apache-2.0

package content

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// verityDigest is struct fsverity_digest of linux/fsverity.h, with room for the longest digest.
type verityDigest struct {
	alg  uint16
	size uint16 // bytes: how much room there is, and then how long the digest is
	sum  [64]byte
}

// measure returns the fs-verity digest that the kernel keeps of a regular file.
func (p *Pool) measure(fd int) (c abi.Content, err error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return c, fmt.Errorf("looking at a file system: %w", err)
	}
	c = abi.Content{Known: abi.FieldVerity, Verity: abi.Verity{Alg: abi.VerityNone}}
	if checksBlocks(int64(fs.Type)) {
		if c.Verity, err = measured(fd); err != nil {
			return abi.Content{}, err
		}
	}
	p.counters.measured.Add(1)
	return c, nil
}

// checksBlocks reports whether the kernel checks each block of a file with fs-verity that it reads
// from such a file system. Others may answer for files that nobody checks: FUSE asks its server.
func checksBlocks(fsType int64) bool {
	switch fsType {
	case unix.EXT4_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
		return true
	}
	return false
}

// measured asks the kernel.
func measured(fd int) (v abi.Verity, err error) {
	d := verityDigest{size: uint16(len(v.Sum))}
	switch errno := measureVerity(fd, &d); errno {
	case 0:
		return d.verity()
	case unix.ENODATA, unix.ENOTTY, unix.EOPNOTSUPP:
		// The file has none; the kernel knows nothing of it; this file system has it turned off.
		return abi.Verity{Alg: abi.VerityNone}, nil
	default:
		return v, fmt.Errorf("asking for the fs-verity digest of a file: %w", errno)
	}
}

// verity returns the digest as rules compare it. An error: the hash is one that rules do not know.
func (d *verityDigest) verity() (v abi.Verity, err error) {
	switch d.alg {
	case unix.FS_VERITY_HASH_ALG_SHA256:
		v.Alg = abi.VeritySHA256
	case unix.FS_VERITY_HASH_ALG_SHA512:
		v.Alg = abi.VeritySHA512
	}
	if v.Alg == abi.VerityUnknown || int(d.size) != v.Alg.Size() {
		return abi.Verity{}, fmt.Errorf("an fs-verity digest of %d bytes by hash %d: %w", d.size, d.alg, errHash)
	}
	copy(v.Bytes(), d.sum[:])
	return v, nil
}

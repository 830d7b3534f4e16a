// SPDX-License-Identifier: Apache-2.0

package digest

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/sys/unix"
)

// piece is how much of a file is read and hashed at a time, bytes: some 100 µs of a CPU.
const piece = 128 << 10

// hasher is what one goroutine reads into, made at its first file.
type hasher struct{ buf []byte }

// hash returns the digest of the file whose stamp is s, and its stamp, which was the same
// before and after. A file that was changed meanwhile is read once more.
func (p *Pool) hash(fd int, s stamp, h *hasher) (sum [32]byte, of stamp, err error) {
	for range 2 {
		if sum, err = p.read(fd, s.size, h); err != nil && err != errChanged {
			return sum, s, err
		}
		after, failed := stampOf(fd)
		if failed != nil {
			return sum, s, failed
		}
		if err == nil && after == s {
			p.counters.hashed.Add(1)
			return sum, s, nil
		}
		s = after
		if s.size > p.opts.MaxBytes {
			return sum, s, errTooBig
		}
	}
	return sum, s, errChanged
}

// read hashes size bytes, which is all that the file may have.
func (p *Pool) read(fd int, size int64, h *hasher) (sum [32]byte, err error) {
	if h.buf == nil {
		h.buf = make([]byte, piece)
	}
	digest := sha256.New()
	for at := int64(0); ; {
		if p.stop.Err() != nil {
			return sum, errStopped
		}
		n, err := unix.Pread(fd, h.buf, at)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return sum, fmt.Errorf("reading a file: %w", err)
		case n == 0 && at == size:
			return [32]byte(digest.Sum(sum[:0])), nil
		case n == 0 || at+int64(n) > size:
			return sum, errChanged
		}
		p.cpus <- struct{}{}
		digest.Write(h.buf[:n]) // never fails
		<-p.cpus
		at += int64(n)
		p.counters.bytes.Add(uint64(n))
	}
}

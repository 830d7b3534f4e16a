// SPDX-License-Identifier: Apache-2.0

package content

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// piece is how much of a file is read and hashed at a time, bytes: some 100 µs of a CPU.
const piece = 128 << 10

// hasher is what one goroutine reads into, made at its first file.
type hasher struct{ buf []byte }

// header returns the format of the file whose stamp is s. It takes no CPU to speak of, and the
// file may be of any size.
func (p *Pool) header(fd int, s stamp) (c abi.Content, err error) {
	var h head
	_, err = steady(fd, s, func(int64) error { // whatever size it says it has
		for h = (head{}); !h.full(); {
			n, err := pread(fd, h.rest(), int64(h.n))
			if err != nil || n == 0 {
				return err
			}
			h.n += n
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	p.counters.headers.Add(1)
	return abi.Content{Known: abi.FieldFormat, Format: h.format()}, nil
}

// hash returns the digest of the file whose stamp is s, with its format, and its stamp, which
// was the same before and after.
func (p *Pool) hash(fd int, s stamp, h *hasher) (c abi.Content, of stamp, err error) {
	of, err = steady(fd, s, func(size int64) (err error) {
		c, err = p.read(fd, size, h)
		return err
	})
	if err != nil {
		return abi.Content{}, of, err
	}
	p.counters.hashed.Add(1)
	return c, of, nil
}

// steady has a file read whose stamp is s, and returns its stamp, which was the same before and
// after. A file that was changed meanwhile is read once more.
func steady(fd int, s stamp, read func(size int64) error) (of stamp, err error) {
	for range 2 {
		err := read(s.size)
		if err != nil && err != errChanged {
			return s, err
		}
		after, failed := stampOf(fd)
		if failed != nil {
			return s, failed
		}
		if err == nil && after == s {
			return s, nil
		}
		s = after
	}
	return s, errChanged
}

// read hashes size bytes, which is all that the file may have.
func (p *Pool) read(fd int, size int64, h *hasher) (c abi.Content, err error) {
	if size > p.opts.MaxBytes {
		return c, errTooBig
	}
	if h.buf == nil {
		h.buf = make([]byte, piece)
	}
	var first head
	digest := sha256.New()
	for at := int64(0); ; {
		if p.stop.Err() != nil {
			return c, errStopped
		}
		n, err := pread(fd, h.buf, at)
		switch {
		case err != nil:
			return c, err
		case n == 0 && at == size:
			return abi.Content{Known: abi.FieldDigest | abi.FieldFormat, Format: first.format(), Digest: [32]byte(digest.Sum(nil))}, nil
		case n == 0 || at+int64(n) > size:
			return c, errChanged
		}
		first.add(h.buf[:n])
		p.cpus <- struct{}{}
		digest.Write(h.buf[:n]) // never fails
		<-p.cpus
		at += int64(n)
		p.counters.bytes.Add(uint64(n))
	}
}

// head is the beginning of a file.
type head struct {
	buf [abi.HeadBytes]byte
	n   int
}

func (h *head) full() bool         { return h.n == len(h.buf) }
func (h *head) rest() []byte       { return h.buf[h.n:] }
func (h *head) add(b []byte)       { h.n += copy(h.rest(), b) }
func (h *head) format() abi.Format { return abi.FormatOf(h.buf[:h.n]) }

// pread reads as pread(2) does, and again when that was interrupted.
func pread(fd int, buf []byte, at int64) (int, error) {
	for {
		n, err := unix.Pread(fd, buf, at)
		switch err {
		case nil:
			return n, nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("reading a file: %w", err)
		}
	}
}

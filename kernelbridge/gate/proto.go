// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Attribute is the extended attribute that sleepers ask for.
const Attribute = "user.arbiter"

// The messages that are looked at; include/uapi/linux/fuse.h has them all.
const (
	opForget      = 2
	opGetattr     = 3
	opOpen        = 14
	opRead        = 15
	opGetxattr    = 22
	opInit        = 26
	opInterrupt   = 36
	opDestroy     = 38
	opBatchForget = 42
)

const (
	protoMajor = 7
	// protoMinor is the newest minor version whose messages are known here. The
	// kernel speaks the lower of ours and its own.
	protoMinor = 31
	// minMinor is the version of Linux 3.15, since when nothing that is used here
	// has changed its size. The kernels that have fsopen for FUSE are all newer.
	minMinor = 23

	inHeaderBytes   = 40
	outHeaderBytes  = 16
	attrBytes       = 88
	initOutBytes    = 64
	attrOutBytes    = 16 + attrBytes
	maxWrite        = 4096
	rootID          = 1
	interruptBit    = 1         // set in the unique of an INTERRUPT
	rootMode        = 0o100_555 // a regular file, readable and executable by all
	foreverSeconds  = 1 << 40   // attributes never change; more would overflow jiffies
	readBufferBytes = 8192      // FUSE_MIN_READ_BUFFER
)

// message is a decoded request. Only what belongs to its opcode is set.
type message struct {
	opcode uint32
	unique uint64
	node   uint64
	pid    uint32 // thread id of the caller in the mount's pid namespace, 0 when it has none
	size   uint32 // GETXATTR, READ: bytes wanted
	offset uint64 // READ
	ours   bool   // GETXATTR: asks for Attribute
	target uint64 // INTERRUPT: unique of the request to interrupt
	major  uint32 // INIT
	minor  uint32
}

// decode parses one request. b is what a read returned. The error is errMalformed,
// and then m has the unique to reply to if there was as much as that.
func decode(b []byte, m *message) error {
	*m = message{}
	if len(b) < inHeaderBytes {
		return errMalformed
	}
	le := binary.NativeEndian
	m.opcode, m.unique = le.Uint32(b[4:]), le.Uint64(b[8:])
	m.node, m.pid = le.Uint64(b[16:]), le.Uint32(b[32:])
	if le.Uint32(b) != uint32(len(b)) {
		return errMalformed
	}
	body := b[inHeaderBytes:]
	switch m.opcode {
	case opGetxattr:
		// size, padding, the name with its NUL
		if len(body) < 9 || body[len(body)-1] != 0 {
			return errMalformed
		}
		m.size = le.Uint32(body)
		name, _, _ := bytes.Cut(body[8:], []byte{0})
		m.ours = string(name) == Attribute
	case opRead:
		// fh, offset, size, and more
		if len(body) < 20 {
			return errMalformed
		}
		m.offset, m.size = le.Uint64(body[8:]), le.Uint32(body[16:])
	case opInterrupt:
		if len(body) < 8 {
			return errMalformed
		}
		m.target = le.Uint64(body)
	case opInit:
		if len(body) < 16 {
			return errMalformed
		}
		m.major, m.minor = le.Uint32(body), le.Uint32(body[4:])
	}
	return nil
}

// sleeperOf reads the request of a task that goes to sleep on a slot, in few steps. Not ok: it is
// another one, which decode reads.
//
//go:nosplit
func sleeperOf(b []byte) (slot int, tid uint32, unique uint64, ok bool) {
	const size = inHeaderBytes + 8 + len(Attribute) + 1 // size and padding, the name with its NUL
	le := binary.NativeEndian
	if len(b) != size || int(le.Uint32(b)) != size || le.Uint32(b[4:]) != opGetxattr || le.Uint64(b[16:]) != rootID ||
		string(b[inHeaderBytes+8:size-1]) != Attribute || b[size-1] != 0 {
		return 0, 0, 0, false
	}
	slot = int(le.Uint32(b[inHeaderBytes:])) - 1
	return slot, le.Uint32(b[32:]), le.Uint64(b[8:]), uint(slot) < abi.Slots
}

// interruptOf returns which request this one interrupts, 0 if it does not.
//
//go:nosplit
func interruptOf(b []byte) (target uint64) {
	le := binary.NativeEndian
	if len(b) != inHeaderBytes+8 || le.Uint32(b) != inHeaderBytes+8 || le.Uint32(b[4:]) != opInterrupt {
		return 0
	}
	return le.Uint64(b[inHeaderBytes:])
}

// putHeader writes the header of a reply of n bytes in all.
func putHeader(b []byte, n int, errno unix.Errno, unique uint64) {
	le := binary.NativeEndian
	le.PutUint32(b, uint32(n))
	le.PutUint32(b[4:], uint32(-int32(errno)))
	le.PutUint64(b[8:], unique)
}

// putInit writes the reply to INIT. The error says that this kernel's version
// cannot be spoken; the reply then refuses it.
func putInit(b []byte, m *message) (n int, err error) {
	clear(b[:outHeaderBytes+initOutBytes])
	le := binary.NativeEndian
	body := b[outHeaderBytes:]
	n = outHeaderBytes + initOutBytes
	le.PutUint32(body, protoMajor)
	le.PutUint32(body[4:], min(m.minor, protoMinor))
	switch {
	case m.major > protoMajor:
		// The kernel asks again with our major version (FUSE_INIT in fuse.h).
		le.PutUint32(body[4:], protoMinor)
	case m.major < protoMajor || m.minor < minMinor:
		err = fmt.Errorf("the kernel speaks FUSE %d.%d, want %d.%d or later", m.major, m.minor, protoMajor, minMinor)
		putHeader(b, outHeaderBytes, unix.EPROTO, m.unique)
		return outHeaderBytes, err
	}
	// No flag is asked for: nothing that they bring is used. max_background and
	// congestion_threshold are of asynchronous requests, which nobody makes.
	le.PutUint16(body[16:], 1)
	le.PutUint16(body[18:], 1)
	le.PutUint32(body[20:], maxWrite)
	le.PutUint32(body[24:], 1) // time_gran, nanoseconds
	putHeader(b, n, 0, m.unique)
	return n, nil
}

// putAttr writes the reply to GETATTR for a root of size bytes.
func putAttr(b []byte, unique uint64, size int) int {
	const n = outHeaderBytes + attrOutBytes
	clear(b[:n])
	le := binary.NativeEndian
	putHeader(b, n, 0, unique)
	body := b[outHeaderBytes:]
	le.PutUint64(body, foreverSeconds)
	attr := body[16:]
	le.PutUint64(attr, rootID) // ino
	le.PutUint64(attr[8:], uint64(size))
	le.PutUint64(attr[16:], 1)        // blocks
	le.PutUint32(attr[60:], rootMode) // mode
	le.PutUint32(attr[64:], 1)        // nlink
	le.PutUint32(attr[80:], maxWrite) // blksize
	return n
}

// putRead writes the reply to READ from image.
func putRead(b []byte, m *message, image []byte) int {
	data := image[min(m.offset, uint64(len(image))):]
	data = data[:min(uint64(len(data)), uint64(m.size), uint64(len(b)-outHeaderBytes))]
	n := outHeaderBytes + copy(b[outHeaderBytes:], data)
	putHeader(b, n, 0, m.unique)
	return n
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"encoding/binary"
	"math/bits"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxKeyBytes is the longest key: event, access, four ids, the cgroups, the process trees, the
// numbers, the attributes, the size, the credentials, the facts of the content, and three texts with their lengths.
const maxKeyBytes = 1 + 4 + 4*4 + 8*abi.CgroupLevels + 8 + 8*abi.Args + 3*4 + (1 + 8) + (1 + 4 + 4 + 8 + 4) + maxContentBytes + 3*(4+abi.PathBytes)

// maxContentBytes is the most that appendContent appends: whether there is a content, the
// format, the fs-verity digest with its hash, the result of a scan, whether the digest is known,
// and the digest.
const maxContentBytes = 1 + 1 + (1 + 64) + 1 + (1 + 32)

// appendKey appends the cache key of the request at hand: the facts that the
// rule set consults for its event and no others, in a fixed order, and which of two sets that is. Everything has a
// fixed size or its length before it, so two requests have the same key only if they
// agree in all of these facts.
func (w *worker) appendKey(key []byte) []byte {
	r := w.req
	want := w.consulted[r.Event]
	le := binary.LittleEndian
	key = append(key, byte(r.Event)|w.mark)
	if want&abi.FieldAccess != 0 {
		key = le.AppendUint32(key, uint32(r.Access))
	}
	if want&abi.FieldUID != 0 {
		key = le.AppendUint32(le.AppendUint32(key, r.UID), r.EUID)
	}
	if want&abi.FieldGID != 0 {
		key = le.AppendUint32(le.AppendUint32(key, r.GID), r.EGID)
	}
	if want&abi.FieldCgroup != 0 {
		for _, id := range r.Cgroup {
			key = le.AppendUint64(key, id)
		}
	}
	if want&abi.FieldAttributes != 0 {
		a := r.Attributes()
		key = le.AppendUint32(le.AppendUint32(le.AppendUint32(key, a.UID), a.GID), a.Mode)
	}
	if want&abi.FieldSize != 0 {
		key = le.AppendUint64(append(key, flag(r.Size.Known)), r.Size.Bytes)
	}
	if want&abi.FieldCredentials != 0 {
		c := &r.Credentials
		key = append(key, flag(c.Known))
		key = le.AppendUint32(le.AppendUint32(key, c.LoginUID), c.Session)
		key = le.AppendUint32(le.AppendUint64(key, c.Capabilities), uint32(c.HostNamespaces))
	}
	if want&abi.FieldTree != 0 {
		key = le.AppendUint64(key, r.Trees&w.marks)
	}
	if want&abi.FieldArgs != 0 {
		for set := w.args[r.Event]; set != 0; set &= set - 1 {
			key = le.AppendUint64(key, r.Arg[bits.TrailingZeros8(set)])
		}
	}
	if want&abi.ContentFields != 0 {
		key = appendContent(key, r, want)
	}
	if want&abi.FieldExe != 0 {
		key = appendText(key, r.Exe(), r.Flags&abi.FlagNoExe != 0)
	}
	if want&abi.FieldDetail != 0 {
		key = appendText(key, r.Detail(), false)
	}
	if want&abi.FieldPath != 0 {
		key = appendText(key, r.Path(), r.Flags&abi.FlagNoObject != 0)
	}
	return key
}

// appendContent appends what is known of the facts of the content that are wanted. That there
// is none is known of all of them at once.
func appendContent(key []byte, r *abi.Request, want abi.Fields) []byte {
	if r.NoContent() {
		return append(key, 0)
	}
	key = append(key, 1)
	if want&abi.FieldFormat != 0 {
		key = append(key, byte(r.Format))
	}
	if want&abi.FieldVerity != 0 { // the hash says how long the digest is
		key = append(append(key, byte(r.Verity.Alg)), r.Verity.Bytes()...)
	}
	if want&abi.FieldScan != 0 {
		key = append(key, byte(r.Scan))
	}
	if want&abi.FieldDigest != 0 {
		known := r.Flags&abi.FlagDigest != 0
		if key = append(key, flag(known)); known {
			key = append(key, r.Digest[:]...)
		}
	}
	return key
}

// appendText appends a text behind its length. One that is missing is not the same as
// an empty one.
func appendText(key, text []byte, missing bool) []byte {
	n := uint32(len(text))
	if missing {
		n, text = ^uint32(0), nil
	}
	return append(binary.LittleEndian.AppendUint32(key, n), text...)
}

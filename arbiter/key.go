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

// key is a cache key that is being written. What is put into it has a fixed size or its
// length before it.
type key struct {
	n int
	b [maxKeyBytes]byte
}

//go:nosplit
func (k *key) put1(v byte) {
	k.b[k.n] = v
	k.n++
}

//go:nosplit
func (k *key) put4(v uint32) {
	binary.LittleEndian.PutUint32(k.b[k.n:], v)
	k.n += 4
}

//go:nosplit
func (k *key) put8(v uint64) {
	binary.LittleEndian.PutUint64(k.b[k.n:], v)
	k.n += 8
}

//go:nosplit
func (k *key) put(v []byte) { k.n += copy(k.b[k.n:], v) }

// cacheKey returns the cache key of the request at hand, valid until the next call: the facts that the
// rule set consults for its event and no others, in a fixed order, and which of two sets that is. Everything has a
// fixed size or its length before it, so two requests have the same key only if they
// agree in all of these facts.
//
//go:nosplit
func (w *worker) cacheKey() []byte {
	r, k := w.req, &w.key
	want := w.consulted[r.Event]
	k.n = 0
	k.put1(byte(r.Event) | w.mark)
	if want&abi.FieldAccess != 0 {
		k.put4(uint32(r.Access))
	}
	if want&abi.FieldUID != 0 {
		k.put4(r.UID)
		k.put4(r.EUID)
	}
	if want&abi.FieldGID != 0 {
		k.put4(r.GID)
		k.put4(r.EGID)
	}
	if want&abi.FieldCgroup != 0 {
		for i := range r.Cgroup {
			k.put8(r.Cgroup[i])
		}
	}
	if want&abi.FieldAttributes != 0 {
		a := r.Attributes()
		k.put4(a.UID)
		k.put4(a.GID)
		k.put4(a.Mode)
	}
	if want&abi.FieldSize != 0 {
		k.put1(flag(r.Size.Known))
		k.put8(r.Size.Bytes)
	}
	if want&abi.FieldCredentials != 0 {
		c := &r.Credentials
		k.put1(flag(c.Known))
		k.put4(c.LoginUID)
		k.put4(c.Session)
		k.put8(c.Capabilities)
		k.put4(uint32(c.HostNamespaces))
	}
	if want&abi.FieldTree != 0 {
		k.put8(r.Trees & w.marks)
	}
	if want&abi.FieldArgs != 0 {
		for set := w.args[r.Event]; set != 0; set &= set - 1 {
			k.put8(r.Arg[bits.TrailingZeros8(set)])
		}
	}
	if want&abi.ContentFields != 0 {
		k.putContent(r, want)
	}
	if want&abi.FieldExe != 0 {
		k.putText(r.Exe(), r.Flags&abi.FlagNoExe != 0)
	}
	if want&abi.FieldDetail != 0 {
		k.putText(r.Detail(), false)
	}
	if want&abi.FieldPath != 0 {
		k.putText(r.Path(), r.Flags&abi.FlagNoObject != 0)
	}
	return k.b[:k.n]
}

// putContent puts what is known of the facts of the content that are wanted. That there
// is none is known of all of them at once.
//
//go:nosplit
func (k *key) putContent(r *abi.Request, want abi.Fields) {
	if r.NoContent() {
		k.put1(0)
		return
	}
	k.put1(1)
	if want&abi.FieldFormat != 0 {
		k.put1(byte(r.Format))
	}
	if want&abi.FieldVerity != 0 { // the hash says how long the digest is
		k.put1(byte(r.Verity.Alg))
		k.put(r.Verity.Bytes())
	}
	if want&abi.FieldScan != 0 {
		k.put1(byte(r.Scan))
	}
	if want&abi.FieldDigest != 0 {
		known := r.Flags&abi.FlagDigest != 0
		k.put1(flag(known))
		if known {
			k.put(r.Digest[:])
		}
	}
}

// putText puts a text behind its length. One that is missing is not the same as
// an empty one.
//
//go:nosplit
func (k *key) putText(text []byte, missing bool) {
	if missing {
		k.put4(^uint32(0))
		return
	}
	k.put4(uint32(len(text)))
	k.put(text)
}

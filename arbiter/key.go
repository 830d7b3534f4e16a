// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"encoding/binary"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// maxKeyBytes is the longest key: event, access, four ids, the cgroups, exe with
// its length and path.
const maxKeyBytes = 1 + 4 + 4*4 + 8*abi.CgroupLevels + 4 + 2*abi.PathBytes

// appendKey appends the cache key of the request at hand: the facts that the
// rule set consults for its event and no others, in a fixed order. The path is
// last and everything else has a fixed size or its length before it, so two
// requests have the same key only if they agree in all of these facts.
func (w *worker) appendKey(key []byte) []byte {
	r := &w.req
	want := w.consulted[r.Event]
	le := binary.LittleEndian
	key = append(key, byte(r.Event))
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
	if want&abi.FieldExe != 0 {
		n := r.ExeLen
		if r.Flags&abi.FlagNoExe != 0 {
			n = ^uint32(0) // no executable is not the same as an empty path
		}
		key = append(le.AppendUint32(key, n), r.Exe()...)
	}
	if want&abi.FieldPath != 0 {
		key = append(key, r.Path()...)
	}
	return key
}

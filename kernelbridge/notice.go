// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bytes"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// noticePathBytes is how much of a path a notice carries, its NUL included.
const noticePathBytes = 256

// notice mirrors struct arb_notice.
type notice struct {
	Facts     ring.Facts
	Reason    uint32
	FailErrno uint32
	Rule      int32
	_         uint32
	Path      [noticePathBytes]byte
}

// failure turns a notice into what the daemon is told.
func (n *notice) failure() *abi.Failure {
	f := &abi.Failure{Reason: abi.Reason(n.Reason), Rule: n.Rule, Epoch: n.Facts.Epoch, Verdict: abi.Verdict{Errno: uint16(n.FailErrno)}}
	ring.Fill(&f.Request, &n.Facts)
	path := n.Path[:]
	if i := bytes.IndexByte(path, 0); i >= 0 {
		path = path[:i]
	}
	f.PathLen = uint32(copy(f.PathBuf[:], path))
	f.ExeLen, f.DetailLen = 0, 0 // the notice has no room for them
	f.Have = abi.FieldUID | abi.FieldGID | abi.FieldAccess | abi.FieldArgs
	if f.LacksRole() {
		f.Have &^= abi.FieldArgs
	}
	return f
}

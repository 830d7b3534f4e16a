// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"encoding/hex"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Question puts the request that e is the record of into r, as far as rules can look at
// it, and r.Have says how far that is. A text that is longer than a request has room for
// is one that is not known. Of process trees it says nothing: what their marks are is the rule
// set's to say that looks at them, see rules.RuleSet.MarksOf.
func (e *Event) Question(r *abi.Request) {
	r.Event, r.Access, r.Flags, r.Have = e.Event, e.Access, e.Flags, e.Facts
	r.TGID, r.TID, r.StartBoottime = e.TGID, e.TID, e.StartBoottime
	r.UID, r.GID, r.EUID, r.EGID = e.UID, e.GID, e.EUID, e.EGID
	r.Dev, r.Ino, r.Cgroup, r.Arg = e.Dev, e.Ino, e.Cgroup, e.Args
	r.Trees, r.Marks, r.Credentials = 0, 0, e.Credentials
	if r.LacksRole() { // it was made by a version that had none
		r.Have &^= abi.FieldArgs
	}
	r.Comm = [16]byte{}
	copy(r.Comm[:], e.Comm)
	put := func(buf *[abi.PathBytes]byte, text string, fact abi.Fields) uint32 {
		if len(text) >= abi.PathBytes {
			r.Have &^= fact
			return 0
		}
		return uint32(copy(buf[:], text))
	}
	r.PathLen = put(&r.PathBuf, e.Path, abi.FieldPath)
	r.DetailLen = put(&r.DetailBuf, e.Detail, abi.FieldDetail)
	r.ExeLen = put(&r.ExeBuf, e.Exe, abi.FieldExe)
	r.Format, r.Verity, r.Scan, r.Signature = e.Format, e.Verity, e.Scan, [abi.SignatureBytes]byte{}
	copy(r.Signature[:], e.Signature)
	r.SetAttributes(e.Attributes)
	r.Size = e.Size
	if n, err := hex.Decode(r.Digest[:], []byte(e.SHA256)); err == nil && n == len(r.Digest) {
		r.Flags |= abi.FlagDigest
	}
	e.content(r)
}

// look gives e the facts of the content that r has.
func (e *Event) look(r *abi.Request) {
	if e.SHA256 = ""; r.Flags&abi.FlagDigest != 0 {
		e.SHA256 = hex.EncodeToString(r.Digest[:])
	}
	e.Format, e.Verity, e.Scan, e.Signature = r.Format, r.Verity, r.Scan, unix.ByteSliceToString(r.Signature[:])
}

// content says what r, which has the facts of the content that e has, knows of it: a record that
// has looked and has none of them is of an object without one.
func (e *Event) content(r *abi.Request) {
	has := r.Content()
	if has == 0 && e.Facts&abi.ContentFields != 0 && !r.NoContent() {
		r.SetNoContent()
	}
	if r.NoContent() {
		has = abi.ContentFields
	}
	r.Have = r.Have&^abi.ContentFields | has
}

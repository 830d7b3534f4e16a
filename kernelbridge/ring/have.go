// SPDX-License-Identifier: Apache-2.0

package ring

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// always are the facts that the kernel side fills in whatever is wanted.
const always = abi.FieldPath | abi.FieldUID | abi.FieldGID | abi.FieldAccess | abi.FieldDetail | abi.FieldArgs | abi.FieldAttributes | abi.FieldSize

// fetches says what the kernel side fetches beside that, under one epoch of its policy.
type fetches struct {
	epoch uint64
	want  [abi.EventCount]abi.Fields
}

// Fetches says which facts the kernel side fetches for a question that it asks under that
// epoch. Whoever changes Header.Want calls it twice: with the epoch before and what both
// want, before the change, and with the new epoch after it. So a worker never takes a fact
// for fetched that was not: a question that saw the new words came after the first call,
// and one of another epoch than the one told is believed in nothing.
func (r *Ring) Fetches(epoch uint64, want *[abi.EventCount]abi.Fields) {
	r.fetches.Store(&fetches{epoch, *want})
}

// have returns the facts that the question in q, asked under that epoch, has for sure. It
// believes in nothing more between a call of Fetches and the next of Next.
//
//go:nosplit
func (s *Source) have(q *abi.Request, epoch uint64) abi.Fields {
	have := always
	if f := s.fetches; f != nil && f == s.ring.fetches.Load() && f.epoch == epoch && q.Event < abi.EventCount {
		have |= f.want[q.Event] & abi.AllFields &^ (abi.ContentFields | abi.FieldTree | abi.FieldCredentials)
	}
	// What is there was fetched.
	if q.ExeLen > 0 {
		have |= abi.FieldExe
	}
	if q.Cgroup[0] != 0 {
		have |= abi.FieldCgroup
	}
	if q.Credentials.Known {
		have |= abi.FieldCredentials
	}
	if q.Marks != 0 {
		have |= abi.FieldTree
	}
	return have
}

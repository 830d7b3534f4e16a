// SPDX-License-Identifier: Apache-2.0

package ring

import (
	"sync"
	"sync/atomic"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// always are the facts that the kernel side fills in whatever is wanted.
const always = abi.FieldPath | abi.FieldUID | abi.FieldGID | abi.FieldAccess | abi.FieldDetail | abi.FieldArgs | abi.FieldAttributes | abi.FieldSize

// fetches says what the kernel side fetches beside that, under one epoch of its policy. It is
// read by workers that are detached, so nothing of it is behind a pointer: seq is odd while it
// changes, and another one afterwards. 0: nobody has told.
type fetches struct {
	mu    sync.Mutex // of those who write
	seq   atomic.Uint64
	epoch atomic.Uint64
	want  [abi.EventCount]atomic.Uint32 // abi.Fields
}

// of returns what is fetched for an event under an epoch, 0 where that is not known.
//
//go:nosplit
func (f *fetches) of(e abi.Event, epoch uint64) abi.Fields {
	seq := f.seq.Load()
	if seq == 0 || seq%2 != 0 || f.epoch.Load() != epoch || e >= abi.EventCount {
		return 0
	}
	want := abi.Fields(f.want[e].Load())
	if f.seq.Load() != seq {
		return 0
	}
	return want
}

// Fetches says which facts the kernel side fetches for a question that it asks under that
// epoch. Whoever changes Header.Want calls it twice: with the epoch before and what both
// want, before the change, and with the new epoch after it. So a worker never takes a fact
// for fetched that was not: a question that saw the new words came after the first call,
// and one of another epoch than the one told is believed in nothing.
func (r *Ring) Fetches(epoch uint64, want *[abi.EventCount]abi.Fields) {
	f := &r.fetches
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq.Add(1)
	f.epoch.Store(epoch)
	for e := range want {
		f.want[e].Store(uint32(want[e]))
	}
	f.seq.Add(1)
}

// have returns the facts that the question in q, asked under that epoch, has for sure.
//
//go:nosplit
func (r *Ring) have(q *abi.Request, epoch uint64) abi.Fields {
	have := always | r.fetches.of(q.Event, epoch)&abi.AllFields&^(abi.ContentFields|abi.FieldTree|abi.FieldCredentials)
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
	if q.LacksRole() {
		have &^= abi.FieldArgs
	}
	return have
}

// SPDX-License-Identifier: Apache-2.0

package abi

// Word is a slot word: generation, state and verdict in one aligned 64-bit
// word, so that a reply needs no ordering and a late one cannot succeed.
//
//	bits  0..7   state
//	bits  8..19  errno of the verdict (0 allows)
//	bit  20      Sleeping
//	bit  21      Keep, in Done only
//	bits 22..31  zero
//	bits 32..63  generation, one more at every claim
type Word uint64

// Sleeping is the flag of a POSTED, TAKEN or DONE word whose requester sleeps at the
// gate or is about to: whoever answers it also has to wake it.
const Sleeping Word = 1 << 20

// Keep is the flag of a DONE word that allows: see Verdict.Keep.
const Keep Word = 1 << 21

// State is where a slot is in its life.
type State uint8

// FREE → FILLING → POSTED → TAKEN → DONE → FREE, and POSTED or TAKEN →
// ABANDONED → FREE when the requester gives up. Of a system call that was unwound
// DONE → UNWOUND → FREE. The requester makes every
// change but POSTED → TAKEN → DONE, which are a worker's.
const (
	Free State = iota
	Filling
	Posted
	Taken
	Done
	Abandoned
	Unwound // the verdict waits for its system call to run again
	stateCount
)

var stateNames = [stateCount]string{"free", "filling", "posted", "taken", "done", "abandoned", "unwound"}

// String returns the state's name.
func (s State) String() string {
	if s < stateCount {
		return stateNames[s]
	}
	return "corrupt"
}

// FirstGen is the generation of a fresh slot: near overflow, so that every run
// exercises the wrap-around.
const FirstGen = 0xffffff00

// MakeWord packs a slot word. An errno above MaxErrno becomes MaxErrno: cut to its
// low bits it could be 0, which allows.
func MakeWord(gen uint32, s State, errno uint16) Word {
	return Word(gen)<<32 | Word(min(errno, MaxErrno))<<8 | Word(s)
}

// Gen returns the generation.
func (w Word) Gen() uint32 { return uint32(w >> 32) }

// State returns the state; a value that is none of the constants means a
// corrupted word.
func (w Word) State() State { return State(w) }

// Errno returns the verdict's errno, meaningful in Done only.
func (w Word) Errno() uint16 { return uint16(w>>8) & MaxErrno }

// With returns the word in state s, same generation and flag, verdict cleared.
func (w Word) With(s State) Word { return w&^0xffffffff | w&Sleeping | Word(s) }

// Answered returns the word in state Done with verdict v, same generation and flag.
func (w Word) Answered(v Verdict) Word {
	done := MakeWord(w.Gen(), Done, v.Errno) | w&Sleeping
	if v.Keep && v.Allowed() {
		done |= Keep
	}
	return done
}

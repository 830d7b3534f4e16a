// SPDX-License-Identifier: Apache-2.0

package abi

import "testing"

// gens are generations at the places where one could go wrong.
var gens = []uint32{0, 1, 1 << 31, FirstGen - 1, FirstGen, 1<<32 - 1}

func TestWordRoundTrip(t *testing.T) {
	for _, gen := range gens {
		for s := range State(stateCount) {
			for _, errno := range []uint16{0, 1, 13, 255, 256, 513, MaxErrno} {
				w := MakeWord(gen, s, errno)
				if w.Gen() != gen || w.State() != s || w.Errno() != errno {
					t.Errorf("MakeWord(%#x, %s, %d) is %#x and reads as %#x, %s, %d", gen, s, errno, w, w.Gen(), w.State(), w.Errno())
				}
				if w>>20&0xfff != 0 {
					t.Errorf("MakeWord(%#x, %s, %d) = %#x: bits 20 to 31 are not zero", gen, s, errno, w)
				}
			}
		}
	}
}

// The layout that the C side reads, bit by bit.
func TestWordBits(t *testing.T) {
	for _, tc := range []struct {
		name string
		got  Word
		want uint64
	}{
		{"free", MakeWord(0, Free, 0), 0},
		{"posted", MakeWord(0x01020304, Posted, 0), 0x01020304_00000002},
		{"EACCES", MakeWord(0xffffffff, Done, 13), 0xffffffff_00000d04},
		{"largest errno", MakeWord(1, Done, MaxErrno), 0x00000001_000fff04},
		{"answer", MakeWord(7, Taken, 0).Answered(Verdict{Errno: 1}), 0x00000007_00000104},
		{"state alone", MakeWord(7, Done, 5).With(Free), 0x00000007_00000000},
	} {
		if uint64(tc.got) != tc.want {
			t.Errorf("%s: got %#016x, want %#016x", tc.name, uint64(tc.got), tc.want)
		}
	}
}

func TestWordWith(t *testing.T) {
	for _, garbage := range []Word{0, 0xffffffff, 0xfff00000, 0x12345678} {
		for _, gen := range gens {
			w := Word(gen)<<32 | garbage
			if got, want := w.With(Taken), MakeWord(gen, Taken, 0)|garbage&Sleeping; got != want {
				t.Errorf("%#x in state taken is %#x, want %#x", w, got, want)
			}
			if got, want := w.Answered(Verdict{Errno: 2}), MakeWord(gen, Done, 2)|garbage&Sleeping; got != want {
				t.Errorf("%#x answered is %#x, want %#x", w, got, want)
			}
		}
	}
}

// An errno that does not fit is our own mistake, and must not turn a denial into
// an allowance on its way through the 12 bits.
func TestWordKeepsDenial(t *testing.T) {
	for errno := range 1 << 16 {
		w := MakeWord(0, Done, uint16(errno))
		if got, want := (Verdict{Errno: w.Errno()}).Allowed(), errno == 0; got != want {
			t.Fatalf("errno %d arrives as %d: allowed %t, want %t", errno, w.Errno(), got, want)
		}
		if w.State() != Done || w>>20 != 0 {
			t.Fatalf("errno %d reaches other parts of the word: %#x", errno, w)
		}
	}
}

// The generation wraps to 0 within the first claims, and a word of the claim
// before never equals one of the claim after.
func TestWordGenerationWraps(t *testing.T) {
	wrapped := false
	gen := uint32(FirstGen)
	for range 1 << 10 {
		before := MakeWord(gen, Taken, 0)
		gen++
		after := MakeWord(gen, Taken, 0)
		if after.Gen() != gen || before == after {
			t.Fatalf("after generation %#x comes %#x with the word %#x", gen-1, after.Gen(), after)
		}
		wrapped = wrapped || gen == 0
	}
	if !wrapped {
		t.Errorf("1,024 claims from %#x on do not wrap", uint32(FirstGen))
	}
}

// Any 64 bits are some word: no reading of it goes wrong, and With repairs it.
func FuzzWord(f *testing.F) {
	for _, gen := range gens {
		f.Add(uint64(MakeWord(gen, Done, 13)), uint16(1))
	}
	f.Add(^uint64(0), ^uint16(0))
	f.Fuzz(func(t *testing.T, bits uint64, errno uint16) {
		w := Word(bits)
		if w.Errno() > MaxErrno || w.State().String() == "" {
			t.Errorf("%#x: errno %d, state %q", bits, w.Errno(), w.State())
		}
		a := w.Answered(Verdict{Errno: errno})
		if a.Gen() != w.Gen() || a.State() != Done || (a.Errno() == 0) != (errno == 0) {
			t.Errorf("%#x answered with %d is %#x", bits, errno, uint64(a))
		}
	})
}

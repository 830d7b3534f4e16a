// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"bytes"
	"math/bits"
	"regexp"
	"testing"
)

// label is what a metric label or a word of a rule file may look like.
var label = regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)

// checkNames requires a distinct name per value below count and the given one
// for all others.
func checkNames(t *testing.T, count uint32, unknown string, name func(uint32) string) {
	t.Helper()
	seen := map[string]uint32{}
	for i := range count {
		n := name(i)
		if before, ok := seen[n]; ok || !label.MatchString(n) || n == unknown {
			t.Errorf("value %d has the name %q; want a word of its own (value %d has it too: %t)", i, n, before, ok)
		}
		seen[n] = i
	}
	for _, i := range []uint32{count, count + 1, 255, 1 << 31, ^uint32(0)} {
		if got := name(i); got != unknown {
			t.Errorf("value %d has the name %q, want %q", i, got, unknown)
		}
	}
}

func TestNames(t *testing.T) {
	t.Run("event", func(t *testing.T) {
		checkNames(t, uint32(EventCount), "unknown", func(i uint32) string { return Event(i).String() })
	})
	t.Run("reason", func(t *testing.T) {
		checkNames(t, uint32(ReasonCount), "unknown", func(i uint32) string { return Reason(i).String() })
	})
	t.Run("state", func(t *testing.T) {
		checkNames(t, uint32(stateCount), "corrupt", func(i uint32) string { return State(min(i, 255)).String() })
	})
}

func TestParseEvent(t *testing.T) {
	for e := EventOpen; e < EventCount; e++ {
		if got, ok := ParseEvent(e.String()); got != e || !ok {
			t.Errorf("ParseEvent(%q) = %d, %t, want %d", e, got, ok, e)
		}
	}
	for _, name := range []string{"", "none", "unknown", "Open", "open ", "opens", "op"} {
		if got, ok := ParseEvent(name); got != EventNone || ok {
			t.Errorf("ParseEvent(%q) = %s, %t, want no event", name, got, ok)
		}
	}
}

// Each member of a set has a bit of its own, without a gap: the sets are
// combined with | and counted in bits by both sides.
func TestSets(t *testing.T) {
	f := func(name string, members ...uint32) {
		t.Helper()
		var all uint32
		for i, m := range members {
			if bits.OnesCount32(m) != 1 || all&m != 0 {
				t.Errorf("%s: member %d is %#x, want one bit that no other has (%#x)", name, i, m, all)
			}
			all |= m
		}
		if want := uint32(1)<<len(members) - 1; all != want {
			t.Errorf("%s: all members are %#x, want %#x", name, all, want)
		}
	}
	f("Fields", uint32(FieldPath), uint32(FieldExe), uint32(FieldUID), uint32(FieldGID), uint32(FieldCgroup), uint32(FieldAccess))
	f("Access", uint32(AccessRead), uint32(AccessWrite), uint32(AccessExec), uint32(AccessAppend), uint32(AccessTruncate), uint32(AccessCreated))
	f("flags", FlagPathTruncated, FlagNoExe)
}

func TestVerdict(t *testing.T) {
	for _, errno := range []uint16{0, 1, 13, MaxErrno, MaxErrno + 1, 1<<16 - 1} {
		if got, want := (Verdict{Errno: errno}).Allowed(), errno == 0; got != want {
			t.Errorf("verdict with errno %d allows: %t, want %t", errno, got, want)
		}
	}
}

func TestRequestTexts(t *testing.T) {
	var r Request
	if len(r.Path()) != 0 || len(r.Exe()) != 0 {
		t.Errorf("a zero request has the path %q and the exe %q, want none", r.Path(), r.Exe())
	}
	r.PathLen = uint32(copy(r.PathBuf[:], "/a\x00\xff and more"[:4]))
	r.ExeLen = uint32(copy(r.ExeBuf[:], bytes.Repeat([]byte{'e'}, PathBytes-1)))
	if got := string(r.Path()); got != "/a\x00\xff" {
		t.Errorf("got path %q, want the four bytes as they are", got)
	}
	if got := len(r.Exe()); got != PathBytes-1 {
		t.Errorf("got an exe of %d bytes, want the longest, %d", got, PathBytes-1)
	}
}

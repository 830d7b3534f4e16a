// SPDX-License-Identifier: Apache-2.0

package abi

import (
	"math"
	"testing"
)

func TestSize(t *testing.T) {
	f := func(text string, want Size) {
		t.Helper()
		got, ok := ParseSize(text)
		if got != want || ok != want.Known {
			t.Errorf("%q: got %+v, %t, want %+v", text, got, ok, want)
		}
		if want.Known && got.String() != text {
			t.Errorf("%q: written as %q", text, got.String())
		}
	}
	f("0", Size{Known: true})
	f("4096", Size{true, 4096})
	f("9223372036854775807", Size{true, math.MaxInt64})
	for _, bad := range []string{"", "-1", "-0", "+1", "01", "4K", "0x10", "9223372036854775808"} {
		f(bad, Size{})
	}
	if got := (Size{Bytes: 5}).String(); got != "" {
		t.Errorf("not known: written as %q, want nothing", got)
	}
}

// Regular files have a size, and nothing else.
func TestSizeOf(t *testing.T) {
	f := func(mode uint32, size int64, want Size) {
		t.Helper()
		if got := SizeOf(mode, size); got != want {
			t.Errorf("mode %o, size %d: got %+v, want %+v", mode, size, got, want)
		}
	}
	f(0o100644, 7, Size{true, 7})
	f(0o104755, 0, Size{Known: true})
	f(0o100644, -1, Size{})
	f(0, 7, Size{})
	for _, kind := range []uint32{0o40755, 0o120777, 0o140755, 0o60660, 0o20666, 0o10644} {
		f(kind, 7, Size{})
	}
}

// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Only an answer that finds its requester asleep counts, and each of them once.
func TestSlept(t *testing.T) {
	r := newRing(t, 2)
	s := r.Sources()[0]
	var q abi.Request
	f := func(name string, sleeps func(), inTime bool, want uint64) {
		t.Helper()
		post(r, 5, 1, facts(), "/a")
		take(t, s, &q, 5)
		sleeps()
		if got := s.Reply(&q, abi.Verdict{}); got != inTime {
			t.Fatalf("%s: the answer was in time: %t, want %t", name, got, inTime)
		}
		if got := s.Slept(); got != want {
			t.Errorf("%s: %d slept, want %d", name, got, want)
		}
	}
	taken := abi.MakeWord(1, abi.Taken, 0)
	f("it polls", func() {}, true, 0)
	f("it sleeps", func() { set(r, 5, taken|abi.Sleeping) }, true, 1)
	f("it has given up in its sleep", func() { set(r, 5, abi.MakeWord(1, abi.Abandoned, 0)|abi.Sleeping) }, false, 1)
	f("it sleeps again", func() { set(r, 5, taken|abi.Sleeping) }, true, 2)
	if got := r.Sources()[1].Slept(); got != 0 {
		t.Errorf("another worker: %d slept, want none", got)
	}
}

// Each generation of a slot is a claim, also beyond the overflow that it begins near.
func TestClaims(t *testing.T) {
	r := newRing(t, 1)
	if got := r.Claims(); got != 0 {
		t.Errorf("a new ring: %d claims, want none", got)
	}
	first := uint32(abi.FirstGen)
	set(r, 0, abi.MakeWord(first+1, abi.Filling, 0))
	set(r, 7, abi.MakeWord(first+300, abi.Free, 0)) // beyond
	set(r, abi.Slots-1, abi.MakeWord(first+2, abi.Unwound, 0))
	if got := r.Claims(); got != 303 {
		t.Errorf("%d claims, want 303", got)
	}
}

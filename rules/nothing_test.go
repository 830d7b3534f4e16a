// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Without rules everything is allowed, by the default, within the usual deadline.
func TestNothingDecides(t *testing.T) {
	rs := Nothing()
	want := Decision{Verdict: Verdict{Action: Allow}, Rule: -1, Deadline: DefaultDeadline, OnFail: Verdict{Action: Allow}}
	if got := rs.Default(); got != want {
		t.Errorf("the default is %+v, want %+v", got, want)
	}
	for _, tc := range []struct {
		name string
		r    *abi.Request
	}{
		{"an empty request", &abi.Request{}},
		{"an open", request(abi.EventOpen, "/etc/shadow", "/bin/cat", func(r *abi.Request) { r.Access = abi.AccessRead | abi.AccessWrite })},
		{"an exec by root", request(abi.EventExec, "/bin/sh", "/bin/sh", nil)},
		{"no path", request(abi.EventOpen, "", "", func(r *abi.Request) { r.Flags = abi.FlagPathTruncated | abi.FlagNoExe })},
		{"an unknown event", request(abi.EventCount, "/x", "", nil)},
		{"garbage", request(^abi.Event(0), "/x", "", func(r *abi.Request) { r.PathLen, r.ExeLen, r.Flags = 1<<32-1, 1<<32-1, 1<<32-1 })},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := rs.Decide(tc.r); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if x := rs.Explain(tc.r); x.Decision != want || x.Rule != "default" || len(x.Steps) != 0 || x.Consulted != 0 {
				t.Errorf("explained as %+v, want the default without steps", x)
			}
		})
	}
	r := request(abi.EventOpen, "/x", "", nil)
	if got := testing.AllocsPerRun(100, func() { rs.Decide(r) }); got != 0 {
		t.Errorf("%v allocations per decision, want none", got)
	}
}

// It is about nothing, so that nobody is held for it and no fact is fetched.
func TestNothingAsksForNothing(t *testing.T) {
	rs := Nothing()
	for _, e := range []abi.Event{abi.EventNone, abi.EventOpen, abi.EventExec, abi.EventCount, ^abi.Event(0)} {
		if got := rs.Consulted(e); got != 0 {
			t.Errorf("it consults %#x of %s, want nothing", uint32(got), e)
		}
	}
	if s := rs.Scope(); len(s.Paths)+len(s.Cgroups) != 0 {
		t.Errorf("its scope is %+v, want none", s)
	}
	if got := rs.Events(); len(got) != 0 {
		t.Errorf("it is about %v, want no event", got)
	}
	if rs.Len() != 0 || len(rs.Source()) != 0 {
		t.Errorf("it has %d rules and the text %q, want none", rs.Len(), rs.Source())
	}
	for _, i := range []int32{-1, 0, 1 << 30} {
		if rs.RuleID(i) != "default" || rs.Message(i) != "" || rs.Line(i) != 0 {
			t.Errorf("rule %d is %q, %q on line %d; want the default", i, rs.RuleID(i), rs.Message(i), rs.Line(i))
		}
	}
}

// No pushed set has its epoch, and no set that can be pushed its fingerprint: one
// without a scope is refused.
func TestNothingIdentity(t *testing.T) {
	rs := Nothing()
	if rs.Epoch() != 0 {
		t.Errorf("its epoch is %d, want 0", rs.Epoch())
	}
	if got := Nothing().Fingerprint(); got != rs.Fingerprint() || got == 0 {
		t.Errorf("its fingerprint is %#x and then %#x, want the same twice, not 0", rs.Fingerprint(), got)
	}
	for _, src := range []string{
		"version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules: []\n",
		"version: 1\ndefault: allow\nscope: {cgroups: [/a]}\nrules: []\n",
		contractFile,
	} {
		if got := mustLoad(t, src); got.Fingerprint() == rs.Fingerprint() || got.Epoch() == rs.Epoch() {
			t.Errorf("a pushed set has epoch %d and fingerprint %#x, those of no set", got.Epoch(), got.Fingerprint())
		}
	}
	if _, err := Load("empty.yaml", []byte("version: 1\ndefault: allow\nrules: []\n"), Options{}); err == nil {
		t.Error("a file without a scope was taken, want an error")
	}
	if n := rs.WithEpoch(5); n.Epoch() != 5 || rs.Epoch() != 0 || n.Fingerprint() != rs.Fingerprint() {
		t.Errorf("with epoch 5 it has %d, the one before %d; want 5 and 0", n.Epoch(), rs.Epoch())
	}
}

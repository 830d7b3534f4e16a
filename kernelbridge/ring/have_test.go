// SPDX-License-Identifier: Apache-2.0

package ring_test

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// A question has the facts that the kernel side fetched under its epoch, and no other is
// taken for known.
func TestHave(t *testing.T) {
	const all = abi.AllFields &^ abi.ContentFields
	const always = all &^ (abi.FieldExe | abi.FieldCgroup | abi.FieldTree | abi.FieldCredentials)
	for _, tc := range []struct {
		name  string
		told  bool
		want  abi.Fields
		epoch uint64 // of the question; 7 is told
		exe   uint32
		group uint64
		marks uint32
		have  abi.Fields
	}{
		{"nobody has told", false, 0, 7, 0, 0, 0, always},
		{"what is there was fetched", false, 0, 7, 1, 9, 1, all &^ abi.FieldCredentials},
		{"fetched and empty", true, abi.FieldExe | abi.FieldCgroup | abi.FieldKeep, 7, 0, 0, 0, always | abi.FieldExe | abi.FieldCgroup},
		{"one of them", true, abi.FieldExe, 7, 0, 0, 0, always | abi.FieldExe},
		{"asked under an older epoch", true, all, 6, 0, 0, 0, always},
		{"asked under a newer one", true, all, 8, 0, 0, 0, always},
		{"credentials that were wanted and could not be had", true, abi.FieldCredentials, 7, 0, 0, 0, always},
		{"marks say themselves that they were read", true, 0, 6, 0, 0, 3, always | abi.FieldTree},
		{"marks that were wanted and could not be read", true, abi.FieldTree, 7, 0, 0, 0, always},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRing(t, 1)
			if tc.told {
				var want [abi.EventCount]abi.Fields
				want[abi.EventOpen] = tc.want
				r.Fetches(7, &want)
			}
			f := ring.Facts{Event: uint32(abi.EventOpen), Epoch: tc.epoch, ExeLen: tc.exe, Trees: 5, Marks: tc.marks}
			f.Cgroup[0] = tc.group
			post(r, 3, 5, f, "/p")
			var q abi.Request
			take(t, r.Sources()[0], &q, 3)
			if q.Trees != 5 || q.Marks != tc.marks {
				t.Errorf("marks %#x of %d, want 0x5 of %d", q.Trees, q.Marks, tc.marks)
			}
			if q.Have != tc.have {
				t.Errorf("got %v, want %v", q.Have.Names(), tc.have.Names())
			}
		})
	}
}

// An exec whose role the kernel side could not tell lacks its numbers.
func TestHaveRole(t *testing.T) {
	for role, want := range map[abi.Role]abi.Fields{abi.RoleUnknown: 0, abi.RoleProgram: abi.FieldArgs, abi.RoleInterpreter: abi.FieldArgs} {
		r := newRing(t, 1)
		f := ring.Facts{Event: uint32(abi.EventExec)}
		f.Arg[abi.ArgRole] = uint64(role)
		post(r, 3, 5, f, "/p")
		var q abi.Request
		take(t, r.Sources()[0], &q, 3)
		if got := q.Have & abi.FieldArgs; got != want {
			t.Errorf("role %d: got %v, want %v", role, got.Names(), want.Names())
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestAsks: what explain says of scope and mute. The kernel's own answers are tested
// where it is, with the same table of inversion.
func TestAsks(t *testing.T) {
	open := Access{Event: abi.EventOpen, Object: "/t/a", Exe: "/bin/x", UID: 5}
	rename := func(from, to string) Access {
		return Access{Event: abi.EventRename, Object: from, Detail: to, Exe: "/bin/x", UID: 5}
	}
	connect := Access{Event: abi.EventConnect, Object: "@bus", Exe: "/t/x", UID: 5}
	for _, tc := range []struct {
		text string
		a    Access
		want bool
	}{
		{"scope: {paths: [/t]}", open, true},
		{"scope: {paths: [/u]}", open, false},
		{"scope: {paths: [/t/a]}", open, true},
		{"scope: {paths: [/]}", open, true},
		{"scope: {uids: [5]}", open, true},
		{"scope: {uids: [1, 6-9]}", open, false},
		{"scope: {exes: [/bin]}", open, true},
		{"scope: {exes: [/bin/x]}", open, true},
		{"scope: {exes: [/bin/y]}", open, false},
		{"scope: {exes: [/bin/x], paths: [/t], uids: [5]}", open, true},
		{"scope: {exes: [/bin/x], paths: [/t], uids: [6]}", open, false},
		{"scope: {mounts: [/m], process_trees: [/bin/y]}", open, true}, // not known
		{"scope: {paths: [/t]}", rename("/u/a", "/t/a"), true},
		{"scope: {paths: [/t]}", rename("/t/a", "/u/a"), true},
		{"scope: {paths: [/t]}", rename("/u/a", "/u/b"), false},
		{"scope: {paths: [/t]}", connect, true},
		{"scope: {paths: [/bin]}", Access{Event: abi.EventSignal, Object: "/t/a", Exe: "/bin/x"}, true},
		{"scope: {paths: [/t]}", Access{Event: abi.EventSignal, Object: "/t/a", Exe: "/bin/x"}, false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/a]}", open, false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/a], invert: [paths]}", open, true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/b]}", open, true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/b], invert: [paths]}", open, false},
		{"scope: {paths: [/t]}\nmute: {uids: [5]}", open, false},
		{"scope: {paths: [/t]}\nmute: {uids: [5], invert: [uids]}", open, true},
		{"scope: {paths: [/t]}\nmute: {exes: [/bin], invert: [exes]}", open, true},
		{"scope: {paths: [/t]}\nmute: {exes: [/bin], uids: [4], invert: [exes]}", open, true},
		{"scope: {paths: [/t]}\nmute: {exes: [/bin], uids: [5], invert: [exes]}", open, false},
		{"scope: {paths: [/t]}\nmute: {exes: [/bin], uids: [4], invert: [exes, uids]}", open, false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m]}", rename("/t/m/a", "/t/b"), true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m]}", rename("/t/m/a", "/t/m/b"), false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m], invert: [paths]}", rename("/t/a", "/t/m/b"), true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m], invert: [paths]}", rename("/t/a", "/t/b"), false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t]}", connect, true},
		{"scope: {paths: [/t]}\nmute: {paths: [/u], invert: [paths]}", connect, true},
		{"scope: {cgroups: [/c]}", Access{Event: abi.EventOpen, Object: "/t", Cgroup: "/c/d"}, true},
		{"scope: {cgroups: [/c]}", Access{Event: abi.EventOpen, Object: "/t", Cgroup: "/e"}, false},
		{"scope: {cgroups: [/c]}\nmute: {cgroups: [/c/d]}", Access{Event: abi.EventOpen, Object: "/t", Cgroup: "/c/d"}, false},
		{"scope: {cgroups: [/c]}\nmute: {cgroups: [/c/d]}", open, true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m], events: [rename]}", rename("/t/m/a", "/t/m/b"), false},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m], events: [rename]}", Access{Event: abi.EventOpen, Object: "/t/m/a"}, true},
		{"scope: {paths: [/t]}\nmute: {paths: [/t/m], invert: [paths], events: [rename]}", Access{Event: abi.EventOpen, Object: "/t/a"}, true},
	} {
		rs, err := Load("f.yaml", []byte("version: 1\ndefault: allow\n"+tc.text+"\n"), Options{})
		if err != nil {
			t.Fatalf("%s: %v", tc.text, err)
		}
		if got := rs.Asks(&tc.a); got != tc.want {
			t.Errorf("%s, %s of %q %q by %s: got %v, want %v", tc.text, tc.a.Event, tc.a.Object, tc.a.Detail, tc.a.Exe, got, tc.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Nothing can be trusted on what is not known of a request.
func TestTruncatedFacts(t *testing.T) {
	a, k := start(t, 1, func(c *Config) { c.Rules = mustRules(t, closedRules, 1) })
	f := facts(abi.EventOpen, 0)
	f.Flags = abi.FlagPathTruncated
	if got := k.Ask(f, "", ""); got.Errno != uint16(unix.EIO) {
		t.Errorf("errno %d, want EIO: no rule can be trusted on an unknown path", got.Errno)
	}
	if s := settled(t, a); s.Failed[abi.ReasonFactsTruncated] != 1 {
		t.Errorf("stats %+v, want one facts_truncated", s)
	}
}

// A rule that comes first and looks at none of what is unknown decides, here as in the kernel side,
// and each time anew: the key of such a request says nothing of what is unknown.
func TestTruncatedFactsOfOthers(t *testing.T) {
	a, k := start(t, 1, func(c *Config) {
		c.Rules = mustRules(t, "version: 1\ndefault: deny\non_fail: {deny: EIO}\nscope: {paths: [/t]}\nrules:\n"+
			"- {id: refused, events: [rename], object: {path: /t/refused}, verdict: {deny: EXDEV}}\n"+
			"- {id: here, events: [rename], object: {path: {prefix: /t/}}, verdict: allow}\n"+
			"- {id: not-there, events: [rename], detail: {prefix: /etc/}, verdict: deny}\n", 1)
	})
	f := facts(abi.EventRename, 0)
	f.Flags = abi.FlagDetailTruncated
	for range 2 {
		for path, want := range map[string]unix.Errno{"/t/x": 0, "/t/refused": unix.EXDEV, "/u/x": unix.EIO} {
			if got := k.Ask(f, path, ""); got.Errno != uint16(want) {
				t.Errorf("%s: errno %d, want %d", path, got.Errno, want)
			}
		}
	}
	if s := settled(t, a); s.Failed[abi.ReasonFactsTruncated] != 2 || s.Decided != 4 || s.Hits != 0 {
		t.Errorf("stats %+v, want two facts_truncated, and four decided anew", s)
	}
}

// Where rules look at the role of an exec it has to be known, but for those before that need no worker.
func TestRoles(t *testing.T) {
	a, k := start(t, 1, func(c *Config) {
		c.Rules = mustRules(t, "version: 1\ndefault: allow\non_fail: {deny: EIO}\nscope: {paths: [/t]}\nrules:\n"+
			"- {id: refused, events: [exec], object: {path: /t/refused}, verdict: {deny: EXDEV}}\n"+
			"- {id: by-hand, events: [exec], args: {role: program}, verdict: {deny: EACCES}}\n", 1)
	})
	for range 2 { // decided and cached
		for _, tc := range []struct {
			path string
			role abi.Role
			want unix.Errno
		}{
			{"/t/x", abi.RoleProgram, unix.EACCES}, {"/t/x", abi.RoleInterpreter, 0}, {"/t/x", abi.RoleUnknown, unix.EIO},
			{"/t/refused", abi.RoleInterpreter, unix.EXDEV}, {"/t/refused", abi.RoleUnknown, unix.EXDEV},
		} {
			f := facts(abi.EventExec, 0)
			f.Arg[abi.ArgRole] = uint64(tc.role)
			if got := k.Ask(f, tc.path, ""); got.Errno != uint16(tc.want) {
				t.Errorf("%s with role %d: errno %d, want %d", tc.path, tc.role, got.Errno, tc.want)
			}
		}
	}
	if s := settled(t, a); s.Failed[abi.ReasonFactsTruncated] != 2 {
		t.Errorf("stats %+v, want two facts_truncated", s)
	}
}

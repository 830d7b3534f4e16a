// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// contractFile uses every field once.
const contractFile = `version: 1
default: allow
deadline: 100ms
on_fail: allow
scope: {paths: [/srv/app], cgroups: [/system.slice/app.service]}
events: [mount]
rules:
  - id: no-shells
    events: [exec]
    object: {path: /srv/app/bin/sh}
    subject: {exe: /usr/bin/python3*, uid: [0, 1000-1999], gid: 100, cgroup: /a/b}
    verdict: deny
    message: "shells are not run here; ask ops"
    deadline: 5ms
    on_fail: deny
  - id: logs
    events: [open]
    object:
      path: [{prefix: /srv/app/log}, {glob: "/srv/**/*.log"}, {literal: "/srv/[x]"}]
    access: [write, append]
    not:
      subject: {euid: 7, egid: [1, 2]}
    verdict: {deny: EROFS}
  - id: see
    events: [open, exec]
    verdict: audit
  - id: web
    events: [connect]
    args: {port: [443, 0x1f90], family: inet, addr: [192.0.2.0/24, "2001:db8::1"]}
    verdict: deny
  - id: labels
    events: [setxattr]
    detail: [user.*, {prefix: security.}]
    args: {flags: {all: 1, any: 6}}
    not: {args: {size: 1024-65535}}
    verdict: audit
`

// request builds a request; edit changes it further.
func request(e abi.Event, path, exe string, edit func(*abi.Request)) *abi.Request {
	r := &abi.Request{Event: e}
	r.PathLen = uint32(copy(r.PathBuf[:], path))
	r.ExeLen = uint32(copy(r.ExeBuf[:], exe))
	if edit != nil {
		edit(r)
	}
	return r
}

func mustLoad(t testing.TB, src string) *RuleSet {
	t.Helper()
	rs, err := Load("test.yaml", []byte(src), Options{Epoch: 1, CgroupID: fakeCgroups})
	if err != nil {
		t.Fatalf("Load:\n%v", err)
	}
	return rs
}

// fakeCgroups gives every path the id of its length, but /missing none.
func fakeCgroups(path string) (uint64, error) {
	if path == "/missing" {
		return 0, errNoCgroup
	}
	return uint64(len(path)), nil
}

func TestRuleAt(t *testing.T) {
	rs := mustLoad(t, contractFile)
	for i := range int32(rs.Len()) {
		if got := rs.RuleAt(rs.Line(i)); got != i {
			t.Errorf("line %d: got rule %d, want %d", rs.Line(i), got, i)
		}
	}
	for _, line := range []int{0, 1, 9, 1000} {
		if got := rs.RuleAt(line); got != -1 {
			t.Errorf("line %d: got rule %d, want none", line, got)
		}
	}
	two := mustLoad(t, head+"rules: [{id: a, events: [open], verdict: deny}, {id: b, events: [exec], verdict: deny}]\n")
	if got := two.RuleAt(4); got != 0 {
		t.Errorf("two on a line: got rule %d, want the first", got)
	}
}

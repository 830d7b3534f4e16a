// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"
	"time"
)

func TestFailureTerms(t *testing.T) {
	rs, err := Load("r", []byte(`version: 1
default: allow
on_fail: deny
scope: {paths: [/t]}
rules:
  - {id: plain, events: [exec], verdict: deny}
  - {id: own, events: [exec], verdict: deny, deadline: 5ms, on_fail: allow}
`), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		rule     int32
		deadline time.Duration
		written  bool
		onFail   string
	}{
		{-1, DefaultDeadline, false, "deny EPERM"},
		{0, DefaultDeadline, false, "deny EPERM"},
		{1, 5 * time.Millisecond, true, "allow"},
	} {
		d, written := rs.WrittenDeadline(tc.rule)
		if d != tc.deadline || written != tc.written || rs.OnFail(tc.rule).String() != tc.onFail {
			t.Errorf("rule %d: deadline %v (written %t), on_fail %v; want %v (%t), %s", tc.rule, d, written, rs.OnFail(tc.rule), tc.deadline, tc.written, tc.onFail)
		}
	}
}

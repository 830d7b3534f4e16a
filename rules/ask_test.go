// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

func TestAsk(t *testing.T) {
	for _, tc := range []struct {
		verdict, want string
		within        time.Duration
	}{
		{"ask", "ask, without an answer deny EPERM", DefaultAsk},
		{"{ask: }", "ask, without an answer deny EPERM", DefaultAsk},
		{"{ask: {default: allow}}", "ask, without an answer allow", DefaultAsk},
		{"{ask: {default: {deny: EACCES}, within: 5s}}", "ask, without an answer deny EACCES", 5 * time.Second},
		{"{ask: {within: 59s, default: deny}}", "ask, without an answer deny EPERM", MaxAsk},
	} {
		t.Run(tc.verdict, func(t *testing.T) {
			rs := mustLoad(t, head+"rules: [{id: a, events: [exec], subject: {uid: 0}, verdict: "+tc.verdict+"}]")
			d := rs.Decide(request(abi.EventExec, "/x", "/y", nil))
			if got := d.Verdict.String(); got != tc.want || d.Within() != tc.within {
				t.Errorf("got %s within %v, want %s within %v", got, d.Within(), tc.want, tc.within)
			}
			if rs.MaxDeadline() != tc.within+AskGrace || rs.MaxDeadline() > MaxDeadline {
				t.Errorf("the kernel side waits %v, want longer than %v, at most %v", rs.MaxDeadline(), tc.within, MaxDeadline)
			}
			if k := rs.KernelRules(abi.EventExec); len(k) > 0 {
				t.Errorf("the kernel decides by itself: %+v", k)
			}
		})
	}
}

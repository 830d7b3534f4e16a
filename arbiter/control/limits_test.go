// SPDX-License-Identifier: Apache-2.0

package control

import "testing"

// crowd makes as many uids call as there are limiters, and more.
func crowd(l *callLimits, groups ...uint32) {
	for uid := range uint32(2 * maxLimiters) {
		l.limiter(caller{uid: 10_000 + uid, groups: groups}, true).Allow()
	}
}

func TestLimitersAreBounded(t *testing.T) {
	l := newCallLimits(&Config{CallsPerSecond: 0.001, CallBurst: 1})
	crowd(l)
	if n := len(l.stranger.byUID); n != maxLimiters {
		t.Errorf("%d limiters, want %d", n, maxLimiters)
	}
	if l.limiter(caller{uid: 5}, true) != l.stranger.shared {
		t.Error("a uid beyond the bound has a limiter of its own")
	}
	if l.limiter(caller{}, false) != l.stranger.shared {
		t.Error("an unknown caller has a limiter of its own")
	}
}

// However many strangers call, root and who is configured are let in.
func TestCrowdKeepsNobodyOut(t *testing.T) {
	l := newCallLimits(&Config{CallsPerSecond: 0.001, CallBurst: 1, Admin: AccessList{UIDs: []uint32{7}, GIDs: []uint32{70}},
		ReadOnly: AccessList{UIDs: []uint32{8}, GIDs: []uint32{80}}})
	crowd(l)
	for name, who := range map[string]caller{"root": {}, "admin uid": {uid: 7}, "read-only uid": {uid: 8},
		"admin group": {uid: 71, gid: 70}, "read-only group": {uid: 81, groups: []uint32{80}}} {
		if !l.limiter(who, true).Allow() {
			t.Errorf("%s: refused because of strangers", name)
		}
	}
	crowd(l, 80)
	for name, who := range map[string]caller{"root": {}, "admin uid": {uid: 7}} {
		if l.limiter(who, true) != l.reserved[who.uid] {
			t.Errorf("%s: shares a limiter with a group", name)
		}
	}
}

// Who has been idle makes room.
func TestIdleLimitersAreForgotten(t *testing.T) {
	l := newCallLimits(&Config{CallsPerSecond: 1e9, CallBurst: 1})
	crowd(l)
	until(t, "a newcomer has a limiter of its own", func() bool { return l.limiter(caller{uid: 5}, true) != l.stranger.shared })
	if n := len(l.stranger.byUID); n > maxLimiters {
		t.Errorf("%d limiters, want at most %d", n, maxLimiters)
	}
}

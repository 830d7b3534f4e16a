// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A rule that has its time, in front of one that refuses.
func timedSet(t *testing.T, key string) *RuleSet {
	return mustLoad(t, head+"rules:\n- {id: now-and-then, events: [open], verdict: allow, "+key+"}\n- {id: else, events: [open], verdict: deny}\n")
}

func TestLifespan(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("2006-01-02 15:04 -0700", s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	pushed := at("2027-01-31 12:00 +0000") // a Sunday
	tests := map[string]struct {
		key  string
		m    Moment
		off  string
		next time.Time
	}{
		"forever":                 {"lifespan: forever", Moment{Now: pushed.AddDate(50, 0, 0), Rebooted: true, Restarted: true}, "", time.Time{}},
		"until a reboot":          {"lifespan: until-reboot", Moment{Now: pushed, Restarted: true}, "", time.Time{}},
		"after a reboot":          {"lifespan: until-reboot", Moment{Now: pushed, Restarted: true, Rebooted: true}, "started again", time.Time{}},
		"in the session":          {"lifespan: session", Moment{Now: pushed}, "", time.Time{}},
		"after the session":       {"lifespan: session", Moment{Now: pushed, Restarted: true}, "started again", time.Time{}},
		"once after the session":  {"lifespan: once", Moment{Now: pushed, Restarted: true}, "started again", time.Time{}},
		"for eight hours":         {"lifespan: 8h", Moment{Now: pushed.Add(8*time.Hour - 1)}, "", pushed.Add(8 * time.Hour)},
		"after eight hours":       {"lifespan: 8h", Moment{Now: pushed.Add(8 * time.Hour)}, "8h0m0s have passed", time.Time{}},
		"not expired":             {"expires: 2027-02-01T00:00:00Z", Moment{Now: at("2027-01-31 23:59 +0000")}, "", at("2027-02-01 00:00 +0000")},
		"expired":                 {"expires: 2027-02-01T00:00:00+02:00", Moment{Now: at("2027-01-31 22:00 +0000")}, "expired on 2027-01-31 22:00:00 UTC", time.Time{}},
		"on a day":                {"times: {days: sun, zone: UTC}", Moment{Now: at("2027-01-31 13:00 +0000")}, "", at("2027-02-01 00:00 +0000")},
		"on another day":          {"times: {days: mon-fri, zone: UTC}", Moment{Now: at("2027-01-31 13:00 +0000")}, "not the time", at("2027-02-01 00:00 +0000")},
		"over the end of a week":  {"times: {days: sat-mon, zone: UTC}", Moment{Now: at("2027-01-31 13:00 +0000")}, "", at("2027-02-01 00:00 +0000")},
		"in the hours":            {"times: {hours: 08:00-18:00, zone: UTC}", Moment{Now: at("2027-01-31 17:59 +0000")}, "", at("2027-01-31 18:00 +0000")},
		"behind the hours":        {"times: {hours: 08:00-18:00, zone: UTC}", Moment{Now: at("2027-01-31 18:00 +0000")}, "not the time", at("2027-02-01 08:00 +0000")},
		"over midnight, before":   {"times: {days: sat, hours: 22:00-06:00, zone: UTC}", Moment{Now: at("2027-01-30 23:00 +0000")}, "", at("2027-01-31 06:00 +0000")},
		"over midnight, after":    {"times: {days: sat, hours: 22:00-06:00, zone: UTC}", Moment{Now: at("2027-01-31 05:59 +0000")}, "", at("2027-01-31 06:00 +0000")},
		"over midnight, too late": {"times: {days: sat, hours: 22:00-06:00, zone: UTC}", Moment{Now: at("2027-01-31 06:00 +0000")}, "not the time", at("2027-02-06 22:00 +0000")},
		"one of two windows":      {"times: [{days: fri, zone: UTC}, {hours: 12:00-24:00, zone: UTC}]", Moment{Now: at("2027-01-31 13:00 +0000")}, "", at("2027-02-01 00:00 +0000")},
		"in a zone":               {"times: {hours: 08:00-18:00, zone: Europe/Berlin}", Moment{Now: at("2027-01-31 07:00 +0000")}, "", at("2027-01-31 17:00 +0000")},
		"in a zone, summer":       {"times: {hours: 08:00-18:00, zone: Europe/Berlin}", Moment{Now: at("2027-07-01 06:00 +0000")}, "", at("2027-07-01 16:00 +0000")},
		// On 2027-03-28 the clocks in Berlin go from 02:00 to 03:00.
		"in a zone, on that day":  {"times: {hours: 01:00-04:00, zone: Europe/Berlin}", Moment{Now: at("2027-03-28 00:30 +0000")}, "", at("2027-03-28 02:00 +0000")},
		"its time, and expired":   {"times: {days: sun, zone: UTC}, lifespan: 1h", Moment{Now: pushed.Add(time.Hour)}, "have passed", time.Time{}},
		"not its time, will come": {"times: {days: mon, zone: UTC}, lifespan: 24h", Moment{Now: pushed}, "not the time", at("2027-02-01 00:00 +0000")},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			tc.m.PushedAt, tc.m.Passed = pushed, tc.m.Now.Sub(pushed)
			rs := timedSet(t, tc.key)
			got, next := rs.At(tc.m)
			if !next.Equal(tc.next) {
				t.Errorf("it changes %v, want %v", next, tc.next)
			}
			want := "now-and-then"
			if tc.off != "" {
				want = "else"
			}
			r := request(abi.EventOpen, "/srv/x", "/bin/y", nil)
			x := got.Explain(r)
			if x.Rule != want {
				t.Errorf("decided by %s, want %s", x.Rule, want)
			}
			if tc.off != "" && !strings.Contains(x.Steps[0].Reason, tc.off) {
				t.Errorf("the reason is %q, want %q", x.Steps[0].Reason, tc.off)
			}
			if got.Whole() != rs || got.Fingerprint() != rs.Fingerprint() || fmt.Sprint(got.Events()) != fmt.Sprint(rs.Events()) {
				t.Errorf("it is not the same set: %v, %v", got.Events(), rs.Events())
			}
			if again, _ := got.At(tc.m); again != got {
				t.Error("the same moment is another set")
			}
			if back, _ := got.At(Moment{Now: pushed, PushedAt: pushed}); tc.off != "" && !strings.Contains(tc.key, "times") && back.Decide(r).Rule != 0 {
				t.Error("the rule does not come back")
			}
		})
	}
}

// Setting the clock back makes no rule live longer, and setting it forth ends it.
func TestClockSteps(t *testing.T) {
	pushed := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	for _, key := range []string{"lifespan: 1h", "expires: 2027-01-31T13:00:00Z"} {
		rs := timedSet(t, key)
		for name, tc := range map[string]struct {
			passed, wall time.Duration
			off          bool
		}{
			"no step":              {59 * time.Minute, 59 * time.Minute, false},
			"set back, not yet":    {59 * time.Minute, -time.Hour, false},
			"set back":             {time.Hour, time.Minute, true},
			"set back, long ago":   {time.Hour, -48 * time.Hour, true},
			"set forth":            {time.Minute, time.Hour, true},
			"asleep, or restarted": {0, time.Hour, true},
		} {
			got, _ := rs.At(Moment{Now: pushed.Add(tc.wall), PushedAt: pushed, Passed: tc.passed})
			if (len(got.off) > 0) != tc.off {
				t.Errorf("%s, %s: off is %v, want %v", key, name, got.off, tc.off)
			}
		}
	}
}

// A clock that was too far ahead does not end a rule for good.
func TestClockTooFarAhead(t *testing.T) {
	pushed := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	rs := timedSet(t, "expires: 2027-02-28T00:00:00Z")
	far := Moment{Now: pushed.AddDate(10, 0, 0), PushedAt: pushed, Passed: time.Minute}
	at, next := rs.At(far)
	if at.Off() != 1 || !next.Equal(far.Now.Add(wallAgain)) {
		t.Errorf("%d off, looked at again %v; want it off, and a look soon", at.Off(), next)
	}
	if at, _ = at.At(Moment{Now: pushed.Add(2 * time.Minute), PushedAt: pushed, Passed: 2 * time.Minute}); at.Off() != 0 {
		t.Error("it does not come back")
	}
}

func TestOnce(t *testing.T) {
	rs := timedSet(t, "lifespan: once")
	r := request(abi.EventOpen, "/srv/x", "/bin/y", nil)
	for range 2 { // asking is free
		if d := rs.Decide(r); d.Rule != 0 || !d.Once {
			t.Fatalf("before: %+v, want the first rule, once", d)
		}
	}
	if !rs.Take(0) || rs.Take(0) {
		t.Error("it can be taken twice, or not at all")
	}
	if d := rs.Decide(r); d.Rule != 1 || d.Once {
		t.Errorf("after: %+v, want the second rule", d)
	}
	if x := rs.Explain(r); x.Steps[0].Reason != "it has decided once" {
		t.Errorf("explained: %+v", x.Steps[0])
	}
	for _, i := range []int32{1, 1, -1} {
		if !rs.Take(i) {
			t.Errorf("rule %d can not be taken", i)
		}
	}
	if at, _ := rs.At(Moment{Restarted: true}); at.Decide(r).Rule != 1 {
		t.Error("it counts after a restart")
	}
}

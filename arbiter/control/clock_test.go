// SPDX-License-Identifier: Apache-2.0

package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/rules"
)

// timedFile has a rule that counts as life says, in front of one that refuses.
func timedFile(life string) string {
	return "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n- {id: guest, events: [open], verdict: allow, " + life + "}\n- {id: others, events: [open], verdict: deny}\n"
}

func (f *fixture) off() int { return f.engine.Rules().Off() }

// A rule goes when its time is over, and comes when its time begins, with the epoch of its set.
func TestTimeOfRules(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(timedFile("lifespan: 1s"))
	if f.off() != 0 {
		t.Error("the rule does not count at the push")
	}
	f.wait("the rule goes", func() bool { return f.off() == 1 })
	if !f.inForce(1) {
		t.Errorf("epoch %d, want 1: it is no push", f.engine.Rules().Epoch())
	}
	f.applier.mu.Lock()
	if got := f.applier.reasons[len(f.applier.reasons)-1]; got != cache.TimeCame {
		t.Errorf("flushed for %s, want time_came", got)
	}
	f.applier.mu.Unlock()
	status, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil || !slices.ContainsFunc(status.GetWarnings(), func(w string) bool { return strings.Contains(w, "rule guest on line 5 does not count any more") }) {
		t.Errorf("status warns of %q, %v; want that the rule is over", status.GetWarnings(), err)
	}
	// A push of the same text is none, and begins no life.
	if out := f.push(timedFile("lifespan: 1s")); !out.GetUnchanged() || f.off() != 1 {
		t.Errorf("pushed again: %v, %d rules off", out, f.off())
	}
	soon := time.Now().Add(1200 * time.Millisecond)
	f.push(timedFile("expires: " + soon.Format(time.RFC3339Nano)))
	f.wait("the rule expires", func() bool { return f.off() == 1 && f.inForce(2) })
	if time.Now().Before(soon) {
		t.Error("it expired before its time")
	}
	out := f.push(timedFile("expires: 2020-01-31T18:00:00Z"))
	if w := out.GetWarnings(); f.off() != 1 || len(w) != 1 || !strings.Contains(w[0], "expired on 2020-01-31 18:00:00 UTC") {
		t.Errorf("warnings %q, %d rules off", w, f.off())
	}
}

// What was reverted to is looked at by the time of its own push.
func TestTimeAfterRevert(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(timedFile("lifespan: 1s"))
	pushed := time.Now()
	f.pending(ruleFile("a"), time.Hour)
	f.wait("the time is over", func() bool { return time.Since(pushed) > time.Second })
	if _, err := f.direct.Revert(f.ctx(), 2, 0); err != nil {
		t.Fatal(err)
	}
	if f.off() != 1 || !f.inForce(1) {
		t.Errorf("epoch %d with %d rules off, want epoch 1 without the rule", f.engine.Rules().Epoch(), f.off())
	}
}

// What an earlier daemon was given begins no new life with this one.
func TestTimeOfStoredRules(t *testing.T) {
	hour := time.Now().Add(-time.Hour)
	for life, counts := range map[string]map[string]bool{
		"lifespan: 30m":          {"same boot": false, "reboot": false},
		"lifespan: 2h":           {"same boot": true, "reboot": true},
		"lifespan: until-reboot": {"same boot": true, "reboot": false},
		"lifespan: session":      {"same boot": false, "reboot": false},
		"lifespan: once":         {"same boot": false, "reboot": false},
	} {
		rs, err := rules.Load("t", []byte(timedFile(life)), rules.Options{Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		for name, boot := range map[string]string{"same boot": bootID(), "reboot": "another"} {
			at, _ := rs.At(StoredMoment(store.Meta{Epoch: 1, PushedAt: hour, Boot: boot}))
			if got := at.Off() == 0; got != counts[name] {
				t.Errorf("%s, %s: counts is %v, want %v", life, name, got, counts[name])
			}
		}
	}
}

// Rules that do not end keep no timer.
func TestNoTimer(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(timedFile("lifespan: 1h"))
	f.push(ruleFile("a"))
	if err := f.direct.begin(f.ctx()); err != nil {
		t.Fatal(err)
	}
	defer f.direct.end()
	if f.direct.clock.timer != nil {
		t.Error("there is a timer for rules that always count")
	}
	for e := range uint64(1000) {
		f.direct.remember(e+3, time.Now())
	}
	if _, ok := f.direct.clock.pushed[2]; !ok || len(f.direct.clock.pushed) != 2 {
		t.Errorf("%v are remembered, want the epoch in force and the last push", f.direct.clock.pushed)
	}
}

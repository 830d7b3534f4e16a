// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// startShadow starts a candidate that must be taken.
func (f *fixture) startShadow(req *controlv1.ShadowStartRequest) *controlv1.ShadowState {
	f.t.Helper()
	out, err := f.shadow.Start(f.ctx(), req)
	if err != nil {
		f.t.Fatalf("Start: %v", err)
	}
	return out.GetState()
}

func (f *fixture) shadowState() *controlv1.ShadowState {
	f.t.Helper()
	out, err := f.shadow.Get(f.ctx(), &controlv1.ShadowGetRequest{})
	if err != nil {
		f.t.Fatalf("Get: %v", err)
	}
	return out.GetState()
}

// decided waits until the candidate has looked at that many decisions.
func (f *fixture) decided(n uint64) *controlv1.ShadowState {
	f.t.Helper()
	var s *controlv1.ShadowState
	until(f.t, "the candidate has looked at the decisions", func() bool {
		s = f.direct.shadowMessage(true) // calls are limited
		return s.GetDecisions() >= n
	})
	return s
}

// A candidate is asked about what is decided, and nobody is answered by it.
func TestShadow(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a", "b"))
	state := f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(ruleFile("a", "c")), Name: "next.yaml"})
	if !state.GetRunning() || state.GetEpoch() != 1 || state.GetRuleCount() != 2 || state.GetName() != "next.yaml" {
		t.Errorf("state at the start: %v", state)
	}
	for _, tc := range []struct {
		path  string
		allow bool
	}{{"/t/a", false}, {"/t/a", false}, {"/t/b", false}, {"/t/c", true}, {"/t/c", true}, {"/t/d", true}} {
		if got := f.ask(abi.EventExec, tc.path).Allowed(); got != tc.allow {
			t.Errorf("%s: allowed %t, want %t, by the rules in force", tc.path, got, tc.allow)
		}
	}
	state = f.decided(6)
	if c := state.GetChanges(); c["allow_to_deny"] != 2 || c["deny_to_allow"] != 1 || c["errno"] != 0 || c["rule"] != 0 || state.GetLost() != 0 || len(state.GetCannotTell()) != 0 {
		t.Errorf("state %v, want two flips to deny and one to allow", state)
	}
	if g := state.GetGroups(); len(g) != 2 || g[0].GetCount() != 2 || string(g[0].GetProgram()) != "/bin/asker" || g[0].GetAfter().GetRule() != "c" ||
		string(g[0].GetSample().GetObject().GetPath()) != "/t/c" {
		t.Errorf("groups %v, want the two of rule c first", g)
	}
	for name, want := range map[string]float64{"running": 1, "decisions_total": 6, "cannot_tell_total": 0, "lost_total": 0} {
		if got := metric(t, f.server.Collectors(), "arbiter_shadow_"+name, nil); got != want {
			t.Errorf("arbiter_shadow_%s: got %v, want %v", name, got, want)
		}
	}
	if got := metric(t, f.server.Collectors(), "arbiter_shadow_changes_total", map[string]string{"kind": "allow_to_deny"}); got != 2 {
		t.Errorf("arbiter_shadow_changes_total: got %v, want 2", got)
	}
	st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil || st.GetShadow().GetDecisions() != 6 || len(st.GetShadow().GetGroups()) != 0 {
		t.Errorf("status has %v, %v; want the candidate without its groups", st.GetShadow(), err)
	}

	// It would flip something: not without force, which is an ordinary push.
	_, err = f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{})
	wantStatus(t, err, codes.FailedPrecondition)
	if !strings.Contains(err.Error(), "decisions that it flips: 3") {
		t.Errorf("got %v, want the flips named", err)
	}
	_, err = f.shadow.Start(f.ctx(), &controlv1.ShadowStartRequest{Source: []byte(ruleFile("x"))})
	wantStatus(t, err, codes.FailedPrecondition)
	out, err := f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{Force: true, Reason: "seen and wanted"})
	if err != nil || out.GetEpoch() != 2 || out.GetPreviousEpoch() != 1 {
		t.Fatalf("promotion by force: %v, %v; want epoch 2", out, err)
	}
	if f.ask(abi.EventExec, "/t/c").Allowed() {
		t.Error("/t/c is allowed after the promotion")
	}
	if m, _ := f.store.Current(); m.Epoch != 2 || m.Reason != "seen and wanted" || m.Name != "next.yaml" {
		t.Errorf("the store has %+v, want the candidate as epoch 2", m)
	}
	state = f.shadowState()
	if state.GetRunning() || state.GetPromotedEpoch() != 2 || state.GetEnded() != "it was promoted and is epoch 2" || state.GetDecisions() != 6 {
		t.Errorf("state after the promotion: %v", state)
	}
	_, err = f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{Force: true})
	wantStatus(t, err, codes.NotFound)
}

// What keeps a candidate from being started, and what of the facts is collected for it.
func TestShadowStart(t *testing.T) {
	f := newFixture(t, nil, nil)
	_, err := f.shadow.Get(f.ctx(), &controlv1.ShadowGetRequest{})
	wantStatus(t, err, codes.NotFound)
	_, err = f.shadow.Stop(f.ctx(), &controlv1.ShadowStopRequest{})
	wantStatus(t, err, codes.NotFound)
	_, err = f.shadow.Start(f.ctx(), &controlv1.ShadowStartRequest{Source: []byte(ruleFile("a"))})
	wantStatus(t, err, codes.FailedPrecondition) // nothing is in force
	f.push(ruleFile("a"))
	epoch := uint64(7)
	for name, tc := range map[string]struct {
		req  *controlv1.ShadowStartRequest
		want codes.Code
	}{
		"a bad file":       {&controlv1.ShadowStartRequest{Source: []byte("version: 2\n")}, codes.InvalidArgument},
		"another epoch":    {&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b")), ExpectedEpoch: &epoch}, codes.FailedPrecondition},
		"too short":        {&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b")), PromoteWhenCleanFor: durationpb.New(minCleanFor - 1)}, codes.InvalidArgument},
		"longer than ever": {&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b")), PromoteWhenCleanFor: durationpb.New(maxCleanFor + 1)}, codes.InvalidArgument},
	} {
		if _, err := f.shadow.Start(f.ctx(), tc.req); status.Code(err) != tc.want {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if n := len(f.applier.collected); n != 0 {
		t.Errorf("facts were collected %d times for candidates that were refused", n)
	}
	f.applier.collectErr = ErrFrozen
	out, err := f.shadow.Start(f.ctx(), &controlv1.ShadowStartRequest{Source: []byte(ruleFile("b"))})
	if err != nil || len(out.GetWarnings()) != 1 || !strings.Contains(out.GetWarnings()[0], "cannot be told") || len(out.GetDiff().GetAdded()) != 1 {
		t.Errorf("where facts cannot be had: %v, %v; want a warning", out, err)
	}
	if _, err := f.shadow.Stop(f.ctx(), &controlv1.ShadowStopRequest{}); err != nil {
		t.Fatal(err)
	}
	if c := f.applier.collected; len(c) != 2 || c[0] == nil || c[0].RuleID(0) != "b" || c[1] != nil {
		t.Errorf("collected for %v, want the candidate and then none", c)
	}
	if s := f.shadowState(); s.GetRunning() || !strings.HasSuffix(s.GetEnded(), "stopped it") {
		t.Errorf("state after the stop: %v", s)
	}
}

// A push of another set ends the candidate, whose decisions were about the set before.
func TestPushEndsShadow(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b"))})
	f.push(ruleFile("c"))
	if s := f.shadowState(); s.GetRunning() || s.GetEnded() != "epoch 2 was put in force instead of epoch 1" {
		t.Errorf("state %v, want it ended by the push", s)
	}
	_, err := f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{Force: true})
	wantStatus(t, err, codes.NotFound)
	f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b"))})
	if s := f.shadowState(); !s.GetRunning() || s.GetEpoch() != 2 {
		t.Errorf("state %v, want another one beside epoch 2", s)
	}
	f.applier.failures = []error{errors.New("no room")}
	if _, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("d"))}); err == nil {
		t.Fatal("a push that cannot be applied went well")
	}
	if s := f.shadowState(); s.GetRunning() || s.GetEnded() != "epoch 3 was to be put in force, which failed" {
		t.Errorf("state %v, want it ended by a push that failed", s)
	}
	f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(ruleFile("b"))})
	f.direct.Close()
	if s := f.shadowState(); s.GetRunning() || s.GetEnded() != "the daemon stopped" {
		t.Errorf("state %v, want it ended with the daemon", s)
	}
}

// A candidate that is clean for long enough, and was asked at all, is put in force by itself.
func TestShadowPromotesItself(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a", "b"))
	f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(strings.Replace(ruleFile("a", "b"), "default: allow", "default: allow\ndeadline: 2s", 1)),
		PromoteWhenCleanFor: durationpb.New(minCleanFor), MinDecisions: 2})
	_, err := f.shadow.Promote(f.ctx(), &controlv1.ShadowPromoteRequest{})
	wantStatus(t, err, codes.FailedPrecondition)
	if !strings.Contains(err.Error(), "idle time proves nothing") {
		t.Errorf("got %v, want the decisions named that are missing", err)
	}
	f.ask(abi.EventExec, "/t/a")
	f.ask(abi.EventExec, "/t/x")
	f.wait("the candidate is in force", func() bool { return f.direct.shadowMessage(false).GetPromotedEpoch() == 2 })
	if m, _ := f.store.Current(); m.Epoch != 2 || m.Reason != "clean for 1s and 2 decisions as a candidate" {
		t.Errorf("the store has %+v", m)
	}
}

// shadowOf is a candidate without an engine, fed by the test.
func shadowOf(t *testing.T, live, candidate string, cleanFor time.Duration) *shadow {
	s := newShadow(ShadowStart{PromoteWhenCleanFor: cleanFor}, ruleSet(t, candidate, 2), ruleSet(t, live, 1))
	s.sub = &arbiter.Subscription{}
	s.lostBefore = func() uint64 { return 0 }
	s.started = time.Now()
	return s
}

// eventOf is the record of an exec that the live set has decided, now.
func (s *shadow) eventOf(verdict, rule, path string) *arbiter.Event {
	e := &arbiter.Event{Event: abi.EventExec, Verdict: verdict, Rule: rule, Path: path, Epoch: s.beside.Epoch(), Fingerprint: s.beside.Fingerprint(),
		Time: time.Now(), Facts: abi.AllFields}
	if verdict == "deny" {
		e.Errno = 1
	}
	return e
}

// What stands against a promotion, and for how long.
func TestShadowBlocks(t *testing.T) {
	cgroup := strings.Replace(ruleFile("a", "b"), "object:", "subject: {cgroup: /box}\n    object:", 1)
	for _, tc := range []struct {
		name      string
		candidate string
		cleanFor  time.Duration
		happens   func(*shadow)
		now, then string // what stands against it at once, and an hour later
	}{
		{"nothing was asked", ruleFile("a", "b"), 0, func(*shadow) {}, "idle time proves nothing", "idle time proves nothing"},
		{"clean", ruleFile("a", "b"), 0, func(s *shadow) { s.add(s.eventOf("deny", "a", "/t/a")) }, "", ""},
		{"clean and too early", ruleFile("a", "b"), time.Minute, func(s *shadow) { s.add(s.eventOf("deny", "a", "/t/a")) }, "it runs for 0s, and 1m0s are wanted", ""},
		{"another rule is no flip", strings.Replace(ruleFile("a", "b"), "id: a", "id: z", 1), 0, func(s *shadow) { s.add(s.eventOf("deny", "a", "/t/a")) }, "", ""},
		{"a flip", ruleFile("a"), 0, func(s *shadow) {
			s.add(s.eventOf("deny", "b", "/t/b"))
			s.add(s.eventOf("deny", "a", "/t/a"))
		}, "decisions that it flips: 1, the last one 0s ago", "decisions that it flips: 1, the last one 1h0m0s ago"},
		{"a flip that is long ago", ruleFile("a"), time.Minute, func(s *shadow) {
			s.add(s.eventOf("deny", "b", "/t/b"))
			s.add(s.eventOf("deny", "a", "/t/a"))
		}, "decisions that it flips: 1", ""},
		{"the clean decisions begin anew", ruleFile("a"), time.Minute, func(s *shadow) {
			s.add(s.eventOf("deny", "a", "/t/a"))
			s.add(s.eventOf("deny", "b", "/t/b"))
		}, "clean decisions: 0, and 1 are wanted", "clean decisions: 0, and 1 are wanted"},
		{"a fact that is missing", cgroup, 0, func(s *shadow) {
			e := s.eventOf("deny", "a", "/t/a")
			e.Facts &^= abi.FieldCgroup
			s.add(e)
		}, "decisions that it cannot tell: 1", "decisions that it cannot tell: 1"},
		{"a loss", ruleFile("a", "b"), 0, func(s *shadow) {
			s.add(s.eventOf("deny", "a", "/t/a"))
			s.lostBefore = func() uint64 { return 5 }
		}, "events that were lost before it could look at them: 5", "events that were lost before it could look at them: 5"},
		{"another scope", strings.Replace(ruleFile("a", "b"), "[/t]", "[/t, /u]", 1), 0, func(s *shadow) { s.add(s.eventOf("deny", "a", "/t/a")) },
			"its scope or mute is another", "its scope or mute is another"},
		{"an event that nobody asks about", strings.Replace(ruleFile("a", "b"), "scope:", "events: [connect]\nscope:", 1), 0,
			func(s *shadow) { s.add(s.eventOf("deny", "a", "/t/a")) }, "it is about connect", "it is about connect"},
		{"failures are no decisions", ruleFile("a", "b"), 0, func(s *shadow) {
			e := s.eventOf("allow", "", "/t/b")
			e.Reason = abi.ReasonDeadline
			s.add(e)
			s.add(s.eventOf("deny", "a", "/t/a"))
		}, "", ""},
		{"what was asked before, or of another set", ruleFile("a"), 0, func(s *shadow) {
			before, other := s.eventOf("deny", "b", "/t/b"), s.eventOf("deny", "b", "/t/b")
			before.Time, other.Epoch = s.started.Add(-1), 7
			s.add(before)
			s.add(other)
			s.add(s.eventOf("deny", "a", "/t/a"))
		}, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := shadowOf(t, ruleFile("a", "b"), tc.candidate, tc.cleanFor)
				s.unseen = s.missing(nil)
				tc.happens(s)
				check := func(when string, now time.Time, want string) {
					t.Helper()
					got := strings.Join(s.blocked(now), "; ")
					if want == "" && got != "" || !strings.Contains(got, want) {
						t.Errorf("%s: %q stands against it, want %q", when, got, want)
					}
				}
				s.countLoss()
				check("at once", time.Now(), tc.now)
				check("an hour later", time.Now().Add(time.Hour), tc.then)
			})
		})
	}
}

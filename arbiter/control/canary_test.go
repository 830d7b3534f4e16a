// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// newCanaryFixture is a fixture in which epoch 1 refuses /t/a, and every cgroup is the one
// that fixture.ask asks from.
func newCanaryFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t, func(c *Config, rc *RulesConfig) {
		rc.CgroupID = func(string) (uint64, error) { return 46, nil }
		c.CallsPerSecond = -1
	}, nil)
	f.push(ruleFile("a"))
	return f
}

// outside makes a request one of the other part.
func outside(r *abi.Request) { r.Cgroup = [abi.CgroupLevels]uint64{47, 48} }

// startCanary starts one that must be taken, for the part that asks by default.
func (f *fixture) startCanary(source string, change func(*controlv1.CanaryStart)) *controlv1.PushResponse {
	f.t.Helper()
	start := &controlv1.CanaryStart{Part: &controlv1.CanaryStart_Cgroup{Cgroup: "/box"}, For: durationpb.New(time.Hour)}
	if change != nil {
		change(start)
	}
	out, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(source), Name: "next.yaml", Canary: start})
	if err != nil {
		f.t.Fatalf("Push: %v", err)
	}
	return out
}

// canaryDecided waits until that many decisions of the canary were looked at.
func (f *fixture) canaryDecided(n uint64) *controlv1.CanaryState {
	f.t.Helper()
	var s *controlv1.CanaryState
	until(f.t, "the decisions of the canary were looked at", func() bool {
		s = f.direct.canaryMessage()
		return s.GetDecisions() >= n
	})
	return s
}

// wantDecisions checks who is refused /t/a and /t/b, in the part and outside of it.
func (f *fixture) wantDecisions(what string, inA, inB, outA, outB bool) {
	f.t.Helper()
	for _, tc := range []struct {
		where, path string
		refused     bool
		change      func(*abi.Request)
	}{{"in the part", "/t/a", inA, func(*abi.Request) {}}, {"in the part", "/t/b", inB, func(*abi.Request) {}},
		{"outside", "/t/a", outA, outside}, {"outside", "/t/b", outB, outside}} {
		if got := !f.ask(abi.EventExec, tc.path, tc.change).Allowed(); got != tc.refused {
			f.t.Errorf("%s, %s %s: refused %t, want %t", what, tc.path, tc.where, got, tc.refused)
		}
	}
}

// A canary decides for its part, nothing else changes the rules meanwhile, and a promotion
// puts it in force for all.
func TestCanaryPromoted(t *testing.T) {
	f := newCanaryFixture(t)
	_, err := f.canary.Get(f.ctx(), &controlv1.CanaryServiceGetRequest{})
	wantStatus(t, err, codes.NotFound)
	sub := f.engine.Subscribe(16, arbiter.SubscribeOptions{})
	defer sub.Close()
	out := f.startCanary(ruleFile("b"), nil)
	if out.GetEpoch() != 2 || out.GetPreviousEpoch() != 1 || !out.GetCanary().GetRunning() || out.GetCanary().GetStart().GetMaxDenyRate() != DefaultCanaryRate {
		t.Errorf("the push: %v, want epoch 2 beside 1", out)
	}
	f.wantDecisions("while it runs", false, true, true, false)
	if in, other := await(t, "an event", sub.C), await(t, "an event", sub.C); in.Epoch != 2 || in.Rule != "b" || other.Epoch != 1 || other.Rule != "a" {
		t.Errorf("events: %d %s, %d %s; want each of its set", in.Epoch, in.Rule, other.Epoch, other.Rule)
	}
	s := f.canaryDecided(2)
	if c := s.GetChanges(); s.GetDecisions() != 2 || s.GetRefused() != 1 || s.GetRefusedBefore() != 1 || c["allow_to_deny"] != 1 || c["deny_to_allow"] != 1 || len(s.GetBlocks()) != 0 {
		t.Errorf("state %v, want one flip each way and nothing against it", s)
	}
	st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	if err != nil || st.GetEpoch() != 1 || st.GetCanary().GetEpoch() != 2 || st.GetPending() != nil {
		t.Errorf("status: epoch %d, canary %v, pending %v, %v", st.GetEpoch(), st.GetCanary(), st.GetPending(), err)
	}
	if got, err := f.rules.Get(f.ctx(), &controlv1.GetRequest{Epoch: proto.Uint64(2)}); err != nil || string(got.GetSource()) != ruleFile("b") {
		t.Errorf("its text: %v, %v", got, err)
	}
	if m, _ := f.store.Current(); m.Epoch != 1 {
		t.Errorf("the store has epoch %d in force, want 1", m.Epoch)
	}
	for what, call := range map[string]func() error{
		"a push": func() error {
			_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("c"))})
			return err
		},
		"a rollback": func() error { _, err := f.rules.Rollback(f.ctx(), &controlv1.RollbackRequest{Epoch: 1}); return err },
		"a lock":     func() error { _, err := f.rules.Lock(f.ctx(), &controlv1.LockRequest{}); return err },
		"a candidate": func() error {
			_, err := f.shadow.Start(f.ctx(), &controlv1.ShadowStartRequest{Source: []byte(ruleFile("c"))})
			return err
		},
		"a confirmation":    func() error { _, err := f.rules.Confirm(f.ctx(), &controlv1.ConfirmRequest{Epoch: 2}); return err },
		"a takeover's step": func() error { _, err := f.direct.Freeze(f.ctx()); return pushStatus(err) },
	} {
		err := call()
		wantStatus(t, err, codes.FailedPrecondition)
		if err == nil || !strings.Contains(err.Error(), "epoch 2 is a canary until ") || !strings.Contains(err.Error(), "rules canary abort`") {
			t.Errorf("%s meanwhile: %v, want the commands that end the canary", what, err)
		}
	}
	if p, err := f.canary.Promote(f.ctx(), &controlv1.CanaryServicePromoteRequest{}); err != nil || !p.GetState().GetPromoted() || p.GetState().GetRunning() {
		t.Fatalf("the promotion: %v, %v", p, err)
	}
	f.wantDecisions("promoted", false, true, false, true)
	if m, _ := f.store.Current(); m.Epoch != 2 || m.Name != "next.yaml" || !f.inForce(2) {
		t.Errorf("the store has %+v in force, the engine %d, want epoch 2", m, f.engine.Rules().Epoch())
	}
	_, err = f.canary.Promote(f.ctx(), &controlv1.CanaryServicePromoteRequest{})
	wantStatus(t, err, codes.NotFound)
	f.push(ruleFile("c"))
}

func TestCanaryAborted(t *testing.T) {
	f := newCanaryFixture(t)
	f.startCanary(ruleFile("b"), nil)
	out, err := f.canary.Abort(f.ctx(), &controlv1.CanaryServiceAbortRequest{})
	if err != nil || out.GetState().GetRunning() || out.GetState().GetPromoted() || !strings.Contains(out.GetState().GetEnded(), "aborted it") {
		t.Fatalf("aborting: %v, %v", out, err)
	}
	f.wantDecisions("aborted", true, false, true, false)
	_, err = f.canary.Abort(f.ctx(), &controlv1.CanaryServiceAbortRequest{})
	wantStatus(t, err, codes.NotFound)
	if got := f.push(ruleFile("c")); got.GetEpoch() != 3 || got.GetPreviousEpoch() != 1 {
		t.Errorf("the next push: epoch %d after %d, want 3 after 1", got.GetEpoch(), got.GetPreviousEpoch())
	}
}

// One that refuses too much goes at once; what the set in force refuses too is none of that.
func TestCanaryRolledBack(t *testing.T) {
	f := newCanaryFixture(t)
	f.startCanary(ruleFile("a", "b"), func(c *controlv1.CanaryStart) { c.MaxDenyRate = proto.Float64(0.02) })
	for range 5 {
		f.ask(abi.EventExec, "/t/a")
	}
	f.ask(abi.EventExec, "/t/b")
	f.ask(abi.EventExec, "/t/b")
	if got := metric(t, f.server.Collectors(), "arbiter_canary_running", nil); got != 1 {
		t.Errorf("arbiter_canary_running: got %v, want 1", got)
	}
	if s := f.canaryDecided(7); !s.GetRunning() {
		t.Fatalf("it ended with two refusals more, of at least 100: %q", s.GetEnded())
	}
	f.ask(abi.EventExec, "/t/b")
	until(t, "it is rolled back, and says so", func() bool { return f.direct.Problem() != "" })
	f.wantDecisions("rolled back", true, false, true, false)
	st, err := f.status.Get(f.ctx(), &controlv1.StatusServiceGetRequest{})
	const why = "it refuses 3 more of 8 decisions than epoch 1 would, at most 0.02 of them may be"
	if err != nil || st.GetCanary().GetEnded() != why || !strings.Contains(strings.Join(st.GetWarnings(), "\n"), "the canary of epoch 2 was rolled back: "+why) {
		t.Errorf("status: %v, warnings %q, %v", st.GetCanary(), st.GetWarnings(), err)
	}
	if m, _ := f.store.Current(); m.Epoch != 1 {
		t.Errorf("the store has epoch %d in force, want 1", m.Epoch)
	}
	for name, want := range map[string]float64{"running": 0, "rolled_back_total": 1} {
		if got := metric(t, f.server.Collectors(), "arbiter_canary_"+name, nil); got != want {
			t.Errorf("arbiter_canary_%s: got %v, want %v", name, got, want)
		}
	}
	f.push(ruleFile("c"))
	if p := f.direct.Problem(); p != "" {
		t.Errorf("after the next push it still says %q", p)
	}
}

// When its time is over it is promoted if it was asked, and ends if not.
func TestCanaryTimeIsOver(t *testing.T) {
	for _, asked := range []bool{true, false} {
		f := newCanaryFixture(t)
		f.startCanary(ruleFile("a", "b"), nil)
		if asked {
			f.ask(abi.EventExec, "/t/c")
			f.canaryDecided(1)
		}
		f.direct.expire(f.direct.pending.Load())
		s := f.direct.canaryMessage()
		if s.GetRunning() || s.GetPromoted() != asked || f.inForce(2) != asked {
			t.Errorf("asked %t: %v, epoch %d is in force", asked, s, f.engine.Rules().Epoch())
		}
		if !asked && !strings.Contains(s.GetEnded(), "it has made 0 decisions, and 1 are wanted") {
			t.Errorf("it ended because %q", s.GetEnded())
		}
	}
}

// Its time is over by itself, too.
func TestCanaryTimer(t *testing.T) {
	f := newCanaryFixture(t)
	if _, err := f.direct.Push(f.ctx(), Push{Source: []byte(ruleFile("b")), Name: "t", Canary: &CanaryStart{Percent: 50, For: time.Millisecond}}); err != nil {
		t.Fatal(err)
	}
	f.wait("it is over", func() bool { return f.direct.pending.Load() == nil })
}

// What fails on the way leaves the set before in force, or the canary and another try.
func TestCanaryFails(t *testing.T) {
	busy := errors.New("busy")
	f := newCanaryFixture(t)
	f.applier.canaryErrs = []error{busy}
	_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(ruleFile("b")),
		Canary: &controlv1.CanaryStart{Part: &controlv1.CanaryStart_Percent{Percent: 5}, For: durationpb.New(time.Hour)}})
	wantStatus(t, err, codes.Internal)
	if f.direct.pending.Load() != nil || f.direct.canaryMessage() != nil {
		t.Error("a canary runs that could not be started")
	}
	f.startCanary(ruleFile("b"), nil)
	f.applier.mu.Lock()
	f.applier.canaryErrs = []error{busy}
	f.applier.mu.Unlock()
	_, err = f.canary.Abort(f.ctx(), &controlv1.CanaryServiceAbortRequest{})
	wantStatus(t, err, codes.Internal)
	if !f.direct.canaryMessage().GetRunning() {
		t.Error("it says that it does not run, and it could not be ended")
	}
	f.applier.mu.Lock()
	f.applier.failures = []error{busy}
	f.applier.mu.Unlock()
	_, err = f.canary.Promote(f.ctx(), &controlv1.CanaryServicePromoteRequest{})
	wantStatus(t, err, codes.Internal)
	f.wantDecisions("after a promotion that failed", true, false, true, false)
	if s := f.direct.canaryMessage(); s.GetRunning() || s.GetPromoted() || !f.inForce(1) {
		t.Errorf("after a promotion that failed: %v", s)
	}
	f.push(ruleFile("c"))
}

// A clean end leaves nothing of it in the store.
func TestCloseWhileCanary(t *testing.T) {
	f := newCanaryFixture(t)
	f.startCanary(ruleFile("b"), nil)
	f.direct.Close()
	if s := f.direct.canaryMessage(); s.GetRunning() || f.direct.pending.Load() != nil {
		t.Errorf("it runs still: %v", s)
	}
	if err := f.store.Discard(2); err == nil {
		t.Error("the store still had it")
	}
}

// Rules that cannot be a canary beside those in force, and requests that are none.
func TestCanaryRefused(t *testing.T) {
	const timed = "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n  - {id: a, events: [exec], lifespan: 1h, verdict: deny}\n"
	good := &controlv1.CanaryStart{Part: &controlv1.CanaryStart_Percent{Percent: 5}, For: durationpb.New(time.Hour)}
	with := func(change func(*controlv1.CanaryStart)) *controlv1.CanaryStart {
		c := proto.Clone(good).(*controlv1.CanaryStart)
		change(c)
		return c
	}
	percent := func(p float64) *controlv1.CanaryStart {
		return with(func(c *controlv1.CanaryStart) { c.Part = &controlv1.CanaryStart_Percent{Percent: p} })
	}
	next := ruleFile("b")
	for _, tc := range []struct {
		name, live, source string
		start              *controlv1.CanaryStart
		confirm            bool
		code               codes.Code
		says               string
	}{
		{"no rules in force", "", next, good, false, codes.FailedPrecondition, "no rules are in force that it could run beside"},
		{"another scope", ruleFile("a"), strings.Replace(next, "[/t]", "[/t, /u]", 1), good, false, codes.FailedPrecondition, "others than in epoch 1, and hold for all: scope; push them whole"},
		{"another mute", ruleFile("a"), next + "mute: {exes: [/bin]}\n", good, false, codes.FailedPrecondition, "hold for all: mute;"},
		{"other events", ruleFile("a"), next + "events: [open]\n", good, false, codes.FailedPrecondition, "hold for all: events;"},
		{"another failure verdict", ruleFile("a"), next + "on_fail: deny\n", good, false, codes.FailedPrecondition, "hold for all: on_fail;"},
		{"rules with a time", ruleFile("a"), timed, good, false, codes.FailedPrecondition, "some of its rules have a lifespan"},
		{"rules with a time in force", timed, next, good, false, codes.FailedPrecondition, "rules of epoch 1, in force, have a lifespan"},
		{"with a confirmation", ruleFile("a"), next, good, true, codes.InvalidArgument, "leave confirm_within out"},
		{"nobody", ruleFile("a"), next, percent(0), false, codes.InvalidArgument, "above 0 and below 100"},
		{"everybody", ruleFile("a"), next, percent(100), false, codes.InvalidArgument, "above 0 and below 100"},
		{"no number", ruleFile("a"), next, percent(math.NaN()), false, codes.InvalidArgument, "above 0 and below 100"},
		{"no time", ruleFile("a"), next, with(func(c *controlv1.CanaryStart) { c.For = nil }), false, codes.InvalidArgument, "give 1s to 720h"},
		{"a rate above 1", ruleFile("a"), next, with(func(c *controlv1.CanaryStart) { c.MaxDenyRate = proto.Float64(5) }), false, codes.InvalidArgument, "max_deny_rate 5: give 0 to 1"},
		{"a failure rate of no number", ruleFile("a"), next, with(func(c *controlv1.CanaryStart) { c.MaxFailureRate = proto.Float64(math.NaN()) }), false, codes.InvalidArgument, "max_failure_rate NaN: give 0 to 1"},
		{"no latency", ruleFile("a"), next, with(func(c *controlv1.CanaryStart) { c.MaxLatency = durationpb.New(0) }), false, codes.InvalidArgument, "max_latency 0s"},
		{"a cgroup where none are known", ruleFile("a"), next, with(func(c *controlv1.CanaryStart) { c.Part = &controlv1.CanaryStart_Cgroup{Cgroup: "/box"} }), false, codes.FailedPrecondition, "cgroups are not known here"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, nil, nil)
			if tc.live != "" {
				f.push(tc.live)
			}
			req := &controlv1.PushRequest{Source: []byte(tc.source), Name: "next.yaml", Canary: tc.start}
			if tc.confirm {
				req.ConfirmWithin = durationpb.New(time.Hour)
			}
			for _, req.DryRun = range []bool{true, false} {
				_, err := f.rules.Push(f.ctx(), req)
				wantStatus(t, err, tc.code)
				if err == nil || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("dry run %t: got %v, want %q", req.DryRun, err, tc.says)
				}
			}
			if f.direct.pending.Load() != nil {
				t.Error("a canary runs")
			}
		})
	}
	t.Run("beside a candidate", func(t *testing.T) {
		f := newCanaryFixture(t)
		f.startShadow(&controlv1.ShadowStartRequest{Source: []byte(next)})
		_, err := f.rules.Push(f.ctx(), &controlv1.PushRequest{Source: []byte(next), Canary: good})
		wantStatus(t, err, codes.FailedPrecondition)
	})
}

// Each limit, at it and one above.
func TestCanaryLimits(t *testing.T) {
	live, next := ruleSet(t, ruleFile("a"), 1), ruleSet(t, ruleFile("b"), 2)
	event := func(path string, change func(*arbiter.Event)) *arbiter.Event {
		e := &arbiter.Event{Event: abi.EventExec, Epoch: 2, Verdict: "allow", Rule: "default", Path: path, Facts: abi.AllFields, Time: time.Now(), TGID: 1}
		if path == "/t/b" {
			e.Verdict, e.Errno, e.Rule = "deny", 1, "b"
		}
		if change != nil {
			change(e)
		}
		return e
	}
	kernel := func(e *arbiter.Event) { e.Epoch, e.Worker, e.Reason, e.Rule = 0, -1, abi.ReasonDeadline, "" }
	for _, tc := range []struct {
		name  string
		more  *arbiter.Event
		plain int // events that are well before it
		most  int // of those that are not, that are borne
		says  string
	}{
		{"refusals, of few", event("/t/b", nil), 0, 2, "it refuses 3 more of 3 decisions than epoch 1 would"},
		{"refusals, of many", event("/t/b", nil), 400, 8, "it refuses 9 more of 409 decisions"},
		{"refusals that cannot be compared", event("/t/b", func(e *arbiter.Event) { e.Facts &^= abi.FieldPath }), 0, 2, "it refuses 3 more"},
		{"failure verdicts", event("/t/c", func(e *arbiter.Event) { e.Reason = abi.ReasonNoDigest }), 0, 3, "4 failure verdicts and late answers"},
		{"late answers", event("/t/c", func(e *arbiter.Event) { e.Late = true }), 0, 3, "4 failure verdicts and late answers"},
		{"of the kernel side", event("", kernel), 0, 3, "4 failure verdicts and late answers"},
		{"slow answers", event("/t/c", func(e *arbiter.Event) { e.Latency = 2 * time.Millisecond }), 0, 1, "2 of 2 answers took longer than 1ms"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCanary(&Push{Canary: &CanaryStart{MaxDenyRate: 0.02, MaxFailureRate: 0.03, MaxLatency: time.Millisecond}}, next, live, arbiter.Part{Share: math.MaxUint64})
			for range tc.plain {
				c.add(event("/t/c", nil))
			}
			for i := range tc.most {
				if c.add(tc.more) {
					t.Fatalf("%d of %d are too many: %s", i+1, tc.most, c.trouble)
				}
			}
			if !c.add(tc.more) || !strings.HasPrefix(c.trouble, tc.says) {
				t.Errorf("one more than %d: %q, want %q", tc.most, c.trouble, tc.says)
			}
			if c.add(tc.more) {
				t.Error("it says so twice")
			}
		})
	}
	// Of what is half lost nobody can tell how it was.
	lossy := newCanary(&Push{Canary: &CanaryStart{MaxDenyRate: 1, MaxFailureRate: 1}}, next, live, arbiter.Part{})
	lossy.sub, lossy.lostBefore = &arbiter.Subscription{}, func() uint64 { return 4 }
	for range 3 {
		lossy.add(event("/t/c", nil))
	}
	if why := lossy.against(); why != "4 events were lost and 3 looked at, which is too few to judge by" {
		t.Errorf("after a loss: %q", why)
	}
	if lossy.add(event("/t/c", nil)); lossy.against() != "" {
		t.Errorf("after one more: %q, want nothing", lossy.against())
	}
	// What is of the other part, or of before, counts for nothing.
	c := newCanary(&Push{Canary: &CanaryStart{}}, next, live, arbiter.Part{Share: 0})
	for _, e := range []*arbiter.Event{event("/t/b", func(e *arbiter.Event) { e.Epoch = 1 }), event("", kernel)} {
		if c.add(e) || c.seen != 0 || c.unanswered != 0 {
			t.Errorf("%+v was counted", e)
		}
	}
	if c.tally.Changes != [trial.KindCount]uint64{} {
		t.Errorf("changes %v, want none", c.tally.Changes)
	}
}

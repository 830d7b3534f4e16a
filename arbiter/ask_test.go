// SPDX-License-Identifier: Apache-2.0

package arbiter

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/ringtest"
	"github.com/arbiterd/arbiter/rules"
)

const askRules = `
version: 1
default: {deny: EROFS}
on_fail: {deny: EIO}
scope: {paths: [/t]}
rules:
  - id: ask-for-programs
    events: [exec]
    verdict: {ask: {default: {deny: EACCES}, within: 20s}}
    message: is this yours?
  - id: ask-or-allow
    events: [open]
    object: {path: /t/allow}
    verdict: {ask: {default: allow, within: 50ms}}
  - id: ask-or-refuse
    events: [open]
    object: {path: /t/refuse}
    verdict: {ask: {default: deny, within: 50ms}}
  - id: ask-for-a-second
    events: [open]
    object: {path: /t/wait}
    verdict: {ask: {default: allow, within: 2s}}
`

func startAsking(t *testing.T) (*Arbiter, *ringtest.Kernel) {
	return start(t, 1, func(c *Config) { c.Rules = mustRules(t, askRules, 1) })
}

// watched has somebody there to answer until the test ends, and returns what waits for a
// number of open questions.
func watched(t *testing.T, a *Arbiter) (open func(n int) []Ask) {
	t.Helper()
	changed, end := a.WatchAsks()
	t.Cleanup(end)
	return func(n int) []Ask {
		t.Helper()
		for {
			if all := a.Asks(); len(all) == n {
				return all
			}
			select {
			case <-changed:
			case <-time.After(10 * time.Second):
				t.Fatalf("%d questions are open, want %d", len(a.Asks()), n)
			}
		}
	}
}

func TestAskAndAnswer(t *testing.T) {
	for _, tc := range []struct {
		allow   bool
		want    unix.Errno
		verdict string
	}{{true, 0, "allow"}, {false, unix.EACCES, "deny"}} {
		t.Run(tc.verdict, func(t *testing.T) {
			a, k := startAsking(t)
			open := watched(t, a)
			sub := a.Subscribe(8, SubscribeOptions{})
			defer sub.Close()
			exec := askFor(t, k, abi.EventExec, "/t/x")
			q := open(1)[0]
			if e := q.Event; e.Path != "/t/x" || e.Exe != "/bin/sh" || e.Rule != "ask-for-programs" || e.Message != "is this yours?" ||
				e.Verdict != "deny" || e.Errno != uint16(unix.EACCES) || q.Waiting != 1 || time.Until(q.Until) > 20*time.Second {
				t.Errorf("the question is %+v", q)
			}
			if n, err := a.Answer(q.ID, Answer{Allow: tc.allow, UID: 7}); n != 1 || err != nil {
				t.Errorf("answering: %d waited, %v", n, err)
			}
			exec.want(tc.want)
			if e := receive(t, sub); e.Asked != "answered" || e.AnsweredBy != 7 || e.Verdict != tc.verdict || e.Rule != "ask-for-programs" || e.Path != "/t/x" {
				t.Errorf("the event is %+v", e)
			}
			if _, err := a.Answer(q.ID, Answer{}); !errors.Is(err, ErrNoAsk) {
				t.Errorf("answering again: %v, want %v", err, ErrNoAsk)
			}
			if s := settled(t, a); s.Asked[Answered] != 1 || s.Decided != 1 || s.Held != 0 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

// The same question is asked once, however many wait for it.
func TestAskOnce(t *testing.T) {
	a, k := startAsking(t)
	open := watched(t, a)
	var all []*asking
	for range 5 {
		all = append(all, askFor(t, k, abi.EventExec, "/t/x"))
	}
	other := askFor(t, k, abi.EventExec, "/t/y")
	waitFor(t, func() bool { return a.Stats().Held == 6 })
	for _, q := range open(2) {
		want := map[string]int{"/t/x": 5, "/t/y": 1}[q.Event.Path]
		if n, err := a.Answer(q.ID, Answer{Allow: q.Event.Path == "/t/x"}); n != want || q.Waiting != want || err != nil {
			t.Errorf("%s: %d waiting, %d answered, %v; want %d", q.Event.Path, q.Waiting, n, err, want)
		}
	}
	for _, r := range all {
		r.want(0)
	}
	other.want(unix.EACCES)
}

// Without an answer the rule's default stands: in time where somebody watches, at once where
// nobody does.
func TestAskWithoutAnswer(t *testing.T) {
	for _, tc := range []struct {
		watched bool
		path    string
		want    unix.Errno
		how     Asked
	}{
		{true, "/t/allow", 0, Unanswered}, {true, "/t/refuse", unix.EPERM, Unanswered},
		{false, "/t/allow", 0, Unwatched}, {false, "/t/refuse", unix.EPERM, Unwatched},
	} {
		t.Run(fmt.Sprintf("watched: %t, %s", tc.watched, tc.path), func(t *testing.T) {
			a, k := startAsking(t)
			if tc.watched {
				watched(t, a)
			}
			sub := a.Subscribe(8, SubscribeOptions{})
			defer sub.Close()
			begin := time.Now()
			askFor(t, k, abi.EventOpen, tc.path).want(tc.want)
			if took := time.Since(begin); tc.watched && took < 50*time.Millisecond {
				t.Errorf("it took %v, want 50 ms", took)
			}
			if e := receive(t, sub); e.Asked != tc.how.String() {
				t.Errorf("the event says %q, want %q", e.Asked, tc.how)
			}
			if s := settled(t, a); s.Asked[tc.how] != 1 || len(a.Asks()) != 0 {
				t.Errorf("stats %+v, %d open", s, len(a.Asks()))
			}
		})
	}
}

func TestRemember(t *testing.T) {
	a, k := startAsking(t)
	open := watched(t, a)
	answer := func(path string, remember time.Duration) {
		t.Helper()
		exec := askFor(t, k, abi.EventExec, path)
		if _, err := a.Answer(open(1)[0].ID, Answer{Allow: true, UID: 7, Remember: remember}); err != nil {
			t.Fatal(err)
		}
		exec.want(0)
	}
	sub := a.Subscribe(8, SubscribeOptions{})
	defer sub.Close()
	answer("/t/x", -1)
	askFor(t, k, abi.EventExec, "/t/x").want(0)
	for _, want := range []string{"answered", "remembered"} {
		if e := receive(t, sub); e.Asked != want || e.AnsweredBy != 7 {
			t.Errorf("the event is %+v, want %s by 7", e, want)
		}
	}
	answer("/t/y", 0)
	answer("/t/y", time.Hour) // asked again
	askFor(t, k, abi.EventExec, "/t/y").want(0)
	answer("/t/z", time.Nanosecond)
	answer("/t/z", 0)

	// The same rules again leave it, others do not.
	for epoch, text := range []string{askRules + "# a comment\n", strings.Replace(askRules, "yours", "mine", 1), askRules} {
		if err := a.Install(t.Context(), mustRules(t, text, uint64(epoch+2)), cache.RulesPushed); err != nil {
			t.Fatal(err)
		}
		if epoch > 0 {
			answer("/t/x", -1)
		}
		askFor(t, k, abi.EventExec, "/t/x").want(0)
		open(0)
	}
}

// A candidate has records tell of more, and changes nothing for who waits for an answer.
func TestTellingWhileAsked(t *testing.T) {
	a, k := startAsking(t)
	open := watched(t, a)
	exec := askFor(t, k, abi.EventExec, "/t/x")
	q := open(1)[0]
	for _, tells := range [][]rules.Tree{{{Path: "/p"}}, nil} {
		if err := a.Install(t.Context(), a.Rules().Telling(tells, []uint64{1}, 1), cache.Told); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.Answer(q.ID, Answer{Allow: true}); err != nil {
		t.Fatal(err)
	}
	exec.want(0)
	open(0)
}

// An answer about one process tree is not taken for one about another tree that has its bit
// since, though the rules are the same.
func TestRememberedTrees(t *testing.T) {
	rs := mustRules(t, "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n"+
		"- {id: r, events: [exec], subject: {process_tree: [/p, /q]}, verdict: {ask: {default: deny, within: 20s}}}\n", 1)
	a, k := start(t, 1, func(c *Config) { c.Rules = rs.WithMarks([]uint64{1, 2}, 1) })
	open := watched(t, a)
	ask := func(trees uint64, marks uint32) *asking {
		f := facts(abi.EventExec, 0)
		f.Trees, f.Marks = trees, marks
		return askWith(t, k, f, "/t/x")
	}
	inQ := ask(2, 1)
	if _, err := a.Answer(open(1)[0].ID, Answer{Allow: true, Remember: -1}); err != nil {
		t.Fatal(err)
	}
	inQ.want(0)
	ask(2, 1).want(0)
	if err := a.Install(t.Context(), rs.WithEpoch(2).WithMarks([]uint64{2, 4}, 2), cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	inP := ask(2, 2)
	if _, err := a.Answer(open(1)[0].ID, Answer{}); err != nil {
		t.Fatal(err)
	}
	inP.want(unix.EPERM)
}

// What was asked by old rules is decided by the new ones, answered or not.
func TestPushWhileAsked(t *testing.T) {
	for _, answered := range []bool{true, false} {
		t.Run(fmt.Sprintf("answered: %t", answered), func(t *testing.T) {
			a, k := startAsking(t)
			open := watched(t, a)
			event, path := abi.EventExec, "/t/x"
			if !answered {
				event, path = abi.EventOpen, "/t/wait"
			}
			r := askFor(t, k, event, path)
			q := open(1)[0]
			if err := a.Install(t.Context(), mustRules(t, "version: 1\ndefault: {deny: ENOENT}\nscope: {paths: [/t]}\n", 2), cache.RulesPushed); err != nil {
				t.Fatal(err)
			}
			if answered {
				if _, err := a.Answer(q.ID, Answer{Allow: true}); err != nil {
					t.Error(err)
				}
			}
			r.want(unix.ENOENT)
			open(0)
		})
	}
}

// There is room for so many questions, and for any number of requests of one.
func TestAsksAreBounded(t *testing.T) {
	s := newAsks()
	s.watchers[make(chan struct{}, 1)] = struct{}{}
	put := func(i int) Asked {
		return s.put(Held{index: uint32(i)}, askKey{byte(i), byte(i >> 8)}, time.Now(), func() Event { return Event{} })
	}
	for i := range MaxAsks {
		if got := put(i); got != Answered {
			t.Fatalf("question %d: %v", i, got)
		}
	}
	for i, want := range map[int]Asked{MaxAsks: Overfull, 0: Answered} {
		if got := put(i); got != want {
			t.Errorf("question %d: %v, want %v", i, got, want)
		}
	}
	s.leave(Held{index: 1}, askKey{1})
	if got := put(MaxAsks); got != Answered {
		t.Errorf("when one has ended: %v, want %v", got, Answered)
	}
}

// A stop ends all questions.
func TestStopWhileAsked(t *testing.T) {
	a, k := startAsking(t)
	open := watched(t, a)
	var all []*asking
	for i := range 5 {
		all = append(all, askFor(t, k, abi.EventExec, fmt.Sprint("/t/", i)))
	}
	open(len(all))
	a.Stop()
	for _, r := range all {
		r.want(unix.EIO)
	}
	if s := a.Stats(); len(a.Asks()) != 0 || s.InFlight != 0 || s.Failed[abi.ReasonNoWorker] != uint64(len(all)) {
		t.Errorf("%d open; stats %+v", len(a.Asks()), s)
	}
}

// A rule that looks at a digest and asks does the one after the other.
func TestAskByDigest(t *testing.T) {
	d := fetcherFunc(func(h Held, _ *abi.Request) bool { h.Content(digest(goodSum, true)); return true })
	text := strings.Replace(knownRules, "verdict: allow", "verdict: ask", 1)
	a, k := start(t, 1, func(c *Config) { c.Rules, c.Contents = mustRules(t, text, 1), d })
	open := watched(t, a)
	exec := askFor(t, k, abi.EventExec, "/t/x")
	q := open(1)[0]
	if q.Event.SHA256 != strings.Repeat("01", 32) {
		t.Errorf("the question has the digest %q", q.Event.SHA256)
	}
	if _, err := a.Answer(q.ID, Answer{Allow: true}); err != nil {
		t.Fatal(err)
	}
	exec.want(0)
}

// TestMemoryIsBounded: what cannot be remembered is said, and answered all the same.
func TestMemoryIsBounded(t *testing.T) {
	s := newAsks()
	for i := range MaxRemembered {
		if err := s.remember(askKey{byte(i), byte(i >> 8)}, Answer{Remember: -1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.remember(askKey{31: 1}, Answer{Remember: -1}); !errors.Is(err, ErrManyRemembered) {
		t.Errorf("one more: %v, want %v", err, ErrManyRemembered)
	}
	if err := s.remember(askKey{1}, Answer{Remember: time.Nanosecond}); err != nil {
		t.Errorf("one of them again: %v", err)
	}
	waitFor(t, func() bool { return s.remember(askKey{31: 1}, Answer{Remember: -1}) == nil })
}

// What was asked for of another request is not taken for this one's.
func TestDigestAfterAsk(t *testing.T) {
	d := fetcherFunc(func(h Held, r *abi.Request) bool { h.Content(digest(goodSum, string(r.Path()) == "/t/x")); return true })
	a, k := start(t, 1, func(c *Config) { c.Rules, c.Contents = mustRules(t, askRules, 1), d })
	open := watched(t, a)
	exec := askFor(t, k, abi.EventExec, "/t/x")
	q := open(1)[0]
	if err := a.Install(t.Context(), mustRules(t, knownRules, 2), cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	askFor(t, k, abi.EventExec, "/t/y").want(unix.EIO) // its digest cannot be had
	if _, err := a.Answer(q.ID, Answer{}); err != nil {
		t.Fatal(err)
	}
	exec.want(0) // by its digest
}

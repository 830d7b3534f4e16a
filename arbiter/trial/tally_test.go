// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

const liveFile = `version: 1
default: allow
scope: {paths: [/srv]}
rules:
  - {id: no-sh, events: [exec], object: {path: /srv/sh}, verdict: {deny: EACCES}}
  - {id: watch, events: [open], object: {path: /srv/keys}, verdict: audit}
`

func mustLoad(t *testing.T, name, text string) *rules.RuleSet {
	t.Helper()
	rs, err := rules.Load(name, []byte(text), rules.Options{Epoch: 3, CgroupID: func(string) (uint64, error) { return 9, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// recordOf is the record of an event that the live rules have decided.
func recordOf(live *rules.RuleSet, event abi.Event, path string, change func(*arbiter.Event)) *arbiter.Event {
	e := &arbiter.Event{Event: event, Access: abi.AccessRead, Exe: "/bin/x", Path: path, UID: 1, Epoch: 3, Fingerprint: live.Fingerprint(),
		Facts: abi.AllFields &^ abi.FieldCgroup}
	if change != nil {
		change(e)
	}
	var r abi.Request
	e.Question(&r)
	d := live.Decide(&r)
	e.Verdict, e.Errno, e.Rule, e.Line = d.Verdict.Action.String(), d.Verdict.Errno, live.RuleID(d.Rule), live.Line(d.Rule)
	return e
}

// Each way in which a candidate can differ, and what is none.
func TestDecideAgain(t *testing.T) {
	live := mustLoad(t, "live.yaml", liveFile)
	file := func(head string, ruleLines ...string) string {
		return "version: 1\n" + head + "\nrules: [" + strings.Join(ruleLines, ", ") + "]\n"
	}
	const plain = "default: allow\nscope: {paths: [/srv]}\nevents: [exec, open]"
	for _, tc := range []struct {
		name      string
		candidate string
		event     abi.Event
		path      string
		change    func(*arbiter.Event)
		want      Result
		says      string // of the outcome
	}{
		{"the same set", liveFile, abi.EventExec, "/srv/sh", nil, Same, "deny EACCES by no-sh"},
		{"the same set, nothing matches", liveFile, abi.EventExec, "/srv/a", nil, Same, "allow by default"},
		{"allowed and refused", file(plain, "{id: r, events: [exec], verdict: deny}"), abi.EventExec, "/srv/a", nil, Flipped, "deny EPERM by r"},
		{"refused and allowed", file(plain), abi.EventExec, "/srv/sh", nil, Flipped, "allow by default"},
		{"another errno", file(plain, "{id: no-sh, events: [exec], verdict: deny}"), abi.EventExec, "/srv/sh", nil, Flipped, "deny EPERM by no-sh"},
		{"another rule", file(plain, "{id: no-shells, events: [exec], verdict: {deny: EACCES}}"), abi.EventExec, "/srv/sh", nil, Changed, "deny EACCES by no-shells"},
		{"no audit any more", file(plain, "{id: watch, events: [open], verdict: allow}"), abi.EventOpen, "/srv/keys", nil, Changed, "allow by watch"},
		{"out of its scope", file("default: deny\nscope: {paths: [/opt]}"), abi.EventExec, "/srv/sh", nil, Flipped, "allow by "},
		{"muted by it", file("default: deny\nscope: {paths: [/srv]}\nmute: {exes: [/bin]}"), abi.EventExec, "/srv/sh", nil, Flipped, "allow by "},
		{"an event that it does not ask about", file("default: deny\nscope: {paths: [/srv]}"), abi.EventMkdir, "/srv/d", nil, Changed, "allow by "},
		{"a fact that the record lacks", file(plain, "{id: r, events: [exec], subject: {cgroup: /g}, verdict: deny}"), abi.EventExec, "/srv/a", nil, Unknown, "cgroup"},
		{"a fact that it need not look at", file(plain, "{id: r, events: [exec], subject: {cgroup: /g, uid: 0}, verdict: deny}"), abi.EventExec, "/srv/a", nil, Same, "allow by default"},
		{"a cgroup that it has", file(plain, "{id: r, events: [exec], subject: {cgroup: /g}, verdict: deny}"), abi.EventExec, "/srv/a",
			func(e *arbiter.Event) { e.Facts, e.Cgroup[0] = abi.AllFields, 9 }, Flipped, "deny EPERM by r"},
		{"a process tree that the record has the subject in", file(plain, "{id: r, events: [exec], subject: {process_tree: [/p, /q]}, verdict: deny}"), abi.EventExec, "/srv/a",
			func(e *arbiter.Event) { e.InTrees, e.NotInTrees = []string{"/q"}, []string{"/p"} }, Flipped, "deny EPERM by r"},
		{"process trees that the subject is not in", file(plain, "{id: r, events: [exec], subject: {process_tree: [/p, /q]}, verdict: deny}"), abi.EventExec, "/srv/a",
			func(e *arbiter.Event) { e.NotInTrees = []string{"/q", "/p"} }, Same, "allow by default"},
		{"a process tree that the record does not name", file(plain, "{id: r, events: [exec], subject: {process_tree: [/p, /q]}, verdict: deny}"), abi.EventExec, "/srv/a",
			func(e *arbiter.Event) { e.NotInTrees = []string{"/q"} }, Unknown, "process_tree"},
		{"a path that is cut", file("on_fail: {deny: EIO}\n"+plain, "{id: r, events: [mkdir], object: {path: /srv/a}, verdict: allow}"), abi.EventMkdir, "",
			func(e *arbiter.Event) { e.Flags = abi.FlagPathTruncated }, Flipped, "deny EIO by "},
		{"a scope that cannot be looked at without the path", file("default: allow\nscope: {paths: [/opt]}\nevents: [mkdir]"), abi.EventMkdir, "",
			func(e *arbiter.Event) { e.Facts = abi.FieldUID }, Same, "allow by default"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := recordOf(live, tc.event, tc.path, tc.change)
			c := New(mustLoad(t, "candidate.yaml", tc.candidate), Options{Cgroups: true})
			o, missing := c.Decide(e)
			says := o.Verdict.String() + " by " + o.Rule
			if missing != 0 {
				says = Missing(missing)
			}
			if says != tc.says {
				t.Errorf("got %s, want %s", says, tc.says)
			}
			if got := NewTally(c).Add(e); got != tc.want {
				t.Errorf("result %d, want %d", got, tc.want)
			}
		})
	}
}

// Cgroups of which nothing is known decide nothing, whatever ids the record has.
func TestCgroupsOfAnotherMachine(t *testing.T) {
	rs := mustLoad(t, "c.yaml", "version: 1\ndefault: allow\nscope: {paths: [/]}\nrules: [{id: r, events: [open], subject: {cgroup: /g}, verdict: deny}]\n")
	e := recordOf(rs, abi.EventOpen, "/a", func(e *arbiter.Event) { e.Facts, e.Cgroup[0] = abi.AllFields, 9 })
	if got := NewTally(New(rs, Options{Cgroups: true})).Add(e); got != Same {
		t.Errorf("with the ids: result %d, want %d", got, Same)
	}
	if got := NewTally(New(rs, Options{})).Add(e); got != Unknown {
		t.Errorf("without them: result %d, want %d", got, Unknown)
	}
}

func TestTallyCounts(t *testing.T) {
	live := mustLoad(t, "live.yaml", liveFile)
	candidate := mustLoad(t, "candidate.yaml", "version: 1\ndefault: deny\nscope: {paths: [/srv]}\nrules: [{id: keys, events: [open], object: {path: /srv/keys}, verdict: allow}]\n")
	tally := NewTally(New(candidate, Options{}))
	add := func(event abi.Event, path string, change func(*arbiter.Event)) {
		e := recordOf(live, event, path, nil)
		e.Seq = tally.Records + 1
		if change != nil {
			change(e)
		}
		tally.Add(e)
	}
	for range 3 {
		add(abi.EventOpen, "/srv/a", nil)
	}
	add(abi.EventExec, "/srv/sh", nil)
	for range 5 {
		add(abi.EventOpen, "/srv/keys", nil)
	}
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Exe = "/bin/y" })
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Reason = abi.ReasonDeadline })
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Reason = abi.ReasonCount + 7 })
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Late = true })
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Epoch, e.Rule = 0, "self-protection" })
	add(abi.EventOpen, "/srv/a", func(e *arbiter.Event) { e.Event = abi.EventCount })
	if tally.Records != 15 || tally.Decided != 10 || tally.Flips() != 4+1 || tally.Changes[Rule] != 5 || tally.Failed() != 3 || tally.Foreign != 2 ||
		tally.Late != 1 || tally.Failures[abi.ReasonDeadline] != 1 || tally.Unknown() != 0 || tally.Own != 0 {
		t.Errorf("got %+v", tally)
	}
	var got []string
	for _, g := range tally.Groups() {
		got = append(got, fmt.Sprintf("%d %s %s: %s by %s, %s by %s, first %d", g.Count, g.Kind, g.Program, g.Before.Verdict, g.Before.Rule, g.After.Verdict, g.After.Rule, g.Sample.Seq))
	}
	want := []string{
		"3 allow_to_deny /bin/x: allow by default, deny EPERM by default, first 1",
		"1 errno /bin/x: deny EACCES by no-sh, deny EPERM by default, first 4",
		"1 allow_to_deny /bin/y: allow by default, deny EPERM by default, first 10",
		"5 rule /bin/x: audit by watch, allow by keys, first 5",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("groups:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// What the same set decides otherwise is told apart: there must be none.
func TestBrokenRepetition(t *testing.T) {
	live := mustLoad(t, "live.yaml", liveFile)
	tally := NewTally(New(live, Options{}))
	e := recordOf(live, abi.EventExec, "/srv/sh", nil)
	tally.Add(e)
	spoilt := *e
	spoilt.Errno++
	tally.Add(&spoilt)
	if tally.Own != 2 || tally.Broken != 1 {
		t.Errorf("%d of its own, %d broken; want 2 and 1", tally.Own, tally.Broken)
	}
}

// Whoever makes up programs fills no memory, and leaves room for flips.
func TestGroupsAreBounded(t *testing.T) {
	live := mustLoad(t, "live.yaml", liveFile)
	tally := NewTally(New(mustLoad(t, "c.yaml", "version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules: [{id: all, events: [open], verdict: allow}, {id: none, events: [exec], verdict: deny}]\n"), Options{}))
	for i := range 4 * MaxGroups {
		for _, event := range []abi.Event{abi.EventOpen, abi.EventExec} {
			tally.Add(recordOf(live, event, "/srv/a", func(e *arbiter.Event) { e.Exe = fmt.Sprintf("/bin/%d", i) }))
		}
	}
	groups := tally.Groups()
	flips := 0
	for _, g := range groups {
		if g.Kind.Flip() {
			flips++
		}
	}
	if len(groups) > MaxGroups || flips < MaxGroups/2 {
		t.Errorf("%d groups, %d of them flips; want at most %d, and half of them for flips", len(groups), flips, MaxGroups)
	}
	if want := uint64(8*MaxGroups - len(groups)); tally.Others != want {
		t.Errorf("%d others, want %d", tally.Others, want)
	}
}

func TestByNames(t *testing.T) {
	rs := mustLoad(t, "c.yaml", "version: 1\ndefault: allow\nscope: {paths: [/srv], cgroups: [/g]}\nmute: {process_trees: [/bin/sshd], exes: [/bin/x]}\n")
	if got := strings.Join(New(rs, Options{}).ByNames(), " "); got != "cgroups process_trees" {
		t.Errorf("got %q, want cgroups and process_trees", got)
	}
	if got := New(rs, Options{SameScope: true}).ByNames(); got != nil {
		t.Errorf("with the scope of the recording: got %q, want none", got)
	}
}

// Rules count at the time of the record, and once is once.
func TestTimeOfRecords(t *testing.T) {
	rs, err := rules.Load("t", []byte("version: 1\ndefault: deny\nscope: {paths: [/t]}\nrules:\n"+
		"- {id: hours, events: [open], object: {path: /t/a}, verdict: allow, times: {hours: 08:00-18:00, zone: UTC}}\n"+
		"- {id: once, events: [open], object: {path: /t/b}, verdict: allow, lifespan: once}\n"+
		"- {id: killer, events: [open], object: {path: /t/c}, verdict: kill}\n"), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2027, 1, 31, 0, 0, 0, 0, time.UTC)
	c := New(rs, Options{SameScope: true})
	for _, tc := range []struct {
		at         time.Duration
		path, want string
	}{
		{7 * time.Hour, "/t/a", "default"}, {8 * time.Hour, "/t/a", "hours"}, {17 * time.Hour, "/t/a", "hours"}, {18 * time.Hour, "/t/a", "default"},
		{9 * time.Hour, "/t/a", "hours"}, // records of two workers are not in order
		{9 * time.Hour, "/t/b", "once"}, {9 * time.Hour, "/t/b", "default"}, {19 * time.Hour, "/t/b", "default"}, {9 * time.Hour, "/t/c", "killer"},
	} {
		e := &arbiter.Event{Event: abi.EventOpen, Path: tc.path, Time: day.Add(tc.at), Epoch: 1, Facts: abi.AllFields}
		if got, missing := c.Decide(e); got.Rule != tc.want || missing != 0 {
			t.Errorf("%s at %v: %q, missing %v; want %s", tc.path, tc.at, got.Rule, missing, tc.want)
		}
	}
}

func TestKillAndDeny(t *testing.T) {
	kill, deny := rules.Verdict{Action: rules.Kill, Errno: 1}, rules.Verdict{Action: rules.Deny, Errno: 1}
	for _, tc := range []struct {
		name          string
		before, after Outcome
		kind          Kind
		changed       bool
	}{
		{"killed, and killed", Outcome{Verdict: kill, Rule: "a"}, Outcome{Verdict: kill, Rule: "a"}, Rule, false},
		{"spared, and killed", Outcome{Verdict: deny, Rule: "a"}, Outcome{Verdict: kill, Rule: "a"}, Rule, false},
		{"denied, and killed by another", Outcome{Verdict: deny, Rule: "a"}, Outcome{Verdict: kill, Rule: "b"}, Errno, true},
		{"killed, and denied", Outcome{Verdict: kill, Rule: "a"}, Outcome{Verdict: deny, Rule: "a"}, Errno, true},
		{"allowed, and killed", Outcome{Rule: "a"}, Outcome{Verdict: kill, Rule: "a"}, AllowToDeny, true},
		{"killed, and allowed", Outcome{Verdict: kill, Rule: "a"}, Outcome{Rule: "a"}, DenyToAllow, true},
	} {
		if kind, changed := compare(&tc.before, &tc.after); kind != tc.kind || changed != tc.changed {
			t.Errorf("%s: %v, %v; want %v, %v", tc.name, kind, changed, tc.kind, tc.changed)
		}
	}
}

// What somebody was asked comes out as he has answered; what he would have answered nobody knows.
func TestAsked(t *testing.T) {
	rs, err := rules.Load("t", []byte("version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n- {id: ask, events: [open], object: {path: /t/a}, verdict: ask}\n"), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	tally := NewTally(New(rs, Options{SameScope: true}))
	e := arbiter.Event{Event: abi.EventOpen, Path: "/t/a", Epoch: 1, Fingerprint: rs.Fingerprint(), Facts: abi.AllFields, Verdict: "deny", Errno: 1, Rule: "ask", Line: 5, Asked: "answered"}
	if got := tally.Add(&e); got != Same || tally.Broken != 0 {
		t.Errorf("answered: %v, %d broken", got, tally.Broken)
	}
	other := e
	other.Rule, other.Asked, other.Fingerprint = "deny", "", 7
	if got := tally.Add(&other); got != Unknown || tally.CannotTell[0] != 1 || Missing(0) != "an answer" {
		t.Errorf("decided otherwise: %v, %v", got, tally.CannotTell)
	}
}

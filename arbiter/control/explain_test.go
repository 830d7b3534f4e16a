// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const explainRules = `version: 1
default: allow
scope: {paths: [/t]}
rules:
  - id: no-shells
    events: [exec]
    object: {path: /t/bin/sh}
    subject: {uid: 1000, exe: /usr/bin/python3}
    verdict: {deny: EACCES}
    message: ask ops
    deadline: 20ms
    on_fail: deny
  - id: watch-writes
    events: [open]
    object: {path: {prefix: /t/etc/}}
    access: [write, create]
    verdict: audit
  - id: boxed
    events: [exec]
    subject: {cgroup: /box/in}
    verdict: deny
`

// boxIDs are the cgroups of the tests.
func boxIDs(path string) (uint64, error) {
	if id, ok := map[string]uint64{"/box": 7, "/box/in": 8, "/box/in/er": 9}[path]; ok {
		return id, nil
	}
	return 0, errors.New("there is no such cgroup")
}

func TestExplain(t *testing.T) {
	f := newFixture(t, func(_ *Config, rc *RulesConfig) { rc.CgroupID = boxIDs }, nil)
	pushed := f.push(explainRules)
	type steps = []*controlv1.ExplainStep
	byDefault := func(s ...*controlv1.ExplainStep) *controlv1.ExplainResponse {
		return &controlv1.ExplainResponse{Verdict: "allow", Rule: "default", Deadline: durationpb.New(time.Second), OnFail: "allow", Steps: s}
	}
	for _, tt := range []struct {
		name string
		req  *controlv1.ExplainRequest
		want *controlv1.ExplainResponse
	}{
		{"exec that is denied", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/bin/sh"), Exe: []byte("/usr/bin/python3"), Uid: 1000, Gid: 100},
			&controlv1.ExplainResponse{Verdict: "deny", Errno: 13, Rule: "no-shells", Line: 5, Message: "ask ops",
				Deadline: durationpb.New(20 * time.Millisecond), OnFail: "deny EPERM", Steps: steps{{Rule: "no-shells", Line: 5, Matched: true}}}},
		{"exec by another", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/bin/sh"), Exe: []byte("/usr/bin/python3"), Uid: 0},
			byDefault(steps{{Rule: "no-shells", Line: 5}, {Rule: "watch-writes", Line: 13}, {Rule: "boxed", Line: 18}}...)},
		{"exec without an exe", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/bin/sh"), Uid: 1000},
			byDefault(steps{{Rule: "no-shells", Line: 5}, {Rule: "watch-writes", Line: 13}, {Rule: "boxed", Line: 18}}...)},
		{"exec in a cgroup", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/x"), Cgroup: []byte("/box/in/er/")},
			&controlv1.ExplainResponse{Verdict: "deny", Errno: 1, Rule: "boxed", Line: 18, Deadline: durationpb.New(time.Second), OnFail: "allow",
				Steps: steps{{Rule: "no-shells", Line: 5}, {Rule: "watch-writes", Line: 13}, {Rule: "boxed", Line: 18, Matched: true}}}},
		{"open that is audited", &controlv1.ExplainRequest{Event: "open", Path: []byte("/t/etc/\xff"), Exe: []byte("/usr/bin/vi"), Access: []string{"read", "write"}},
			&controlv1.ExplainResponse{Verdict: "audit", Rule: "watch-writes", Line: 13, Deadline: durationpb.New(time.Second), OnFail: "allow",
				Steps: steps{{Rule: "no-shells", Line: 5}, {Rule: "watch-writes", Line: 13, Matched: true}}}},
		{"open reads by default", &controlv1.ExplainRequest{Event: "open", Path: []byte("/t/etc/x")},
			byDefault(steps{{Rule: "no-shells", Line: 5}, {Rule: "watch-writes", Line: 13}, {Rule: "boxed", Line: 18}}...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Epoch, tt.want.Fingerprint = 1, pushed.GetFingerprint()
			tt.want.WrittenDeadline, tt.want.WrittenOnFail = tt.want.Deadline, tt.want.OnFail // no bound is known
			got, err := f.rules.Explain(f.ctx(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range got.GetSteps() {
				if s.GetWhy() == "" != s.GetMatched() {
					t.Errorf("rule %s: matched %v because %q", s.GetRule(), s.GetMatched(), s.GetWhy())
				}
			}
			if diff := cmp.Diff(tt.want, got, protocmp.Transform(), protocmp.IgnoreFields(&controlv1.ExplainStep{}, "why"),
				protocmp.IgnoreFields(&controlv1.ExplainResponse{}, "consulted", "kept")); diff != "" {
				t.Errorf("explanation (-want +got):\n%s", diff)
			}
		})
	}
}

// TestExplainBound: where the kernel side gives up before the rule's deadline, its time
// and its verdict are what is answered.
func TestExplainBound(t *testing.T) {
	for _, tt := range []struct {
		name            string
		bound, deadline time.Duration
		onFail          string
	}{
		{"below the deadline", 5 * time.Millisecond, 5 * time.Millisecond, "allow"},
		{"equal", 20 * time.Millisecond, 20 * time.Millisecond, "allow"},
		{"above", 21 * time.Millisecond, 20 * time.Millisecond, "deny EPERM"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config, rc *RulesConfig) {
				rc.CgroupID = boxIDs
				c.Info = func() Info { return Info{Bound: tt.bound} }
			}, nil)
			f.push(explainRules)
			got, err := f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/bin/sh"), Exe: []byte("/usr/bin/python3"), Uid: 1000, Gid: 100})
			if err != nil {
				t.Fatal(err)
			}
			if d := got.GetDeadline().AsDuration(); d != tt.deadline || got.GetOnFail() != tt.onFail || got.GetBound().AsDuration() != tt.bound {
				t.Errorf("deadline %v, on_fail %s, bound %v; want %v, %s, %v", d, got.GetOnFail(), got.GetBound().AsDuration(), tt.deadline, tt.onFail, tt.bound)
			}
			if d := got.GetWrittenDeadline().AsDuration(); d != 20*time.Millisecond || got.GetWrittenOnFail() != "deny EPERM" {
				t.Errorf("written: %v, %s; want 20ms, deny EPERM", d, got.GetWrittenOnFail())
			}
		})
	}
}

// TestExplainAgreesWithTheEngine: the same question gets the same verdict.
func TestExplainAgreesWithTheEngine(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	for _, event := range []abi.Event{abi.EventExec, abi.EventOpen} {
		for _, path := range []string{"/t/a", "/t/b"} {
			got, err := f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: event.String(), Path: []byte(path),
				Exe: []byte("/bin/asker"), Uid: 1000, Gid: 100})
			if err != nil {
				t.Fatal(err)
			}
			if v := f.ask(event, path); got.GetErrno() != uint32(v.Errno) || (got.GetVerdict() == "deny") == v.Allowed() {
				t.Errorf("%v %s: explained %s with errno %d, decided %v", event, path, got.GetVerdict(), got.GetErrno(), v)
			}
		}
	}
}

func TestExplainScope(t *testing.T) {
	f := newFixture(t, func(_ *Config, rc *RulesConfig) { rc.CgroupID = boxIDs }, nil)
	for _, tt := range []struct {
		scope, path, cgroup string
		out                 bool
	}{
		{"paths: [/t]", "/t", "", false},
		{"paths: [/t]", "/t/a", "", false},
		{"paths: [/t]", "/tt", "", true},
		{"paths: [/u, /t]", "/t/a", "", false},
		{"paths: [/]", "/x", "", false},
		{"cgroups: [/box/in]", "/x", "", false}, // it is not said which
		{"cgroups: [/box/in]", "/x", "/box/in/er", false},
		{"cgroups: [/box/in]", "/x", "/box", true},
		{"cgroups: [/box], paths: [/t]", "/t/a", "/box/in", false},
		{"cgroups: [/box], paths: [/t]", "/x", "/box/in", true},
		{"cgroups: [/box], paths: [/t]", "/t/a", "/", true},
	} {
		f.push("version: 1\ndefault: deny\nscope: {" + tt.scope + "}\n")
		got, err := f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: "exec", Path: []byte(tt.path), Cgroup: []byte(tt.cgroup)})
		if err != nil || got.GetOutOfScope() != tt.out || got.GetVerdict() != "deny" {
			t.Errorf("scope {%s}, path %s, cgroup %q: got %s, out of scope %v, %v; want deny, %v", tt.scope, tt.path, tt.cgroup,
				got.GetVerdict(), got.GetOutOfScope(), err, tt.out)
		}
	}
}

// Detail and numbers decide, and without an object the executable is in the scope or not.
func TestExplainOtherEvents(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(`version: 1
default: allow
scope: {paths: [/t]}
rules:
  - {id: into-keys, events: [rename], detail: {prefix: /t/keys}, verdict: deny}
  - {id: web, events: [connect], args: {family: inet, port: 443}, verdict: deny}
  - {id: bus, events: [connect], object: {path: "@bus"}, verdict: deny}
  - {id: admin, events: [capable], args: {capability: CAP_SYS_ADMIN}, verdict: deny}
`)
	args := func(values ...any) (out []*controlv1.Argument) {
		for i := 0; i < len(values); i += 2 {
			out = append(out, &controlv1.Argument{Name: values[i].(string), Value: uint64(values[i+1].(int))})
		}
		return out
	}
	for _, tt := range []struct {
		name string
		req  *controlv1.ExplainRequest
		rule string
		out  bool
	}{
		{"rename into", &controlv1.ExplainRequest{Event: "rename", Path: []byte("/t/a"), Detail: []byte("/t/keys/a")}, "into-keys", false},
		{"rename elsewhere", &controlv1.ExplainRequest{Event: "rename", Path: []byte("/t/a"), Detail: []byte("/t/a2")}, "default", false},
		{"connect", &controlv1.ExplainRequest{Event: "connect", Exe: []byte("/t/bin/x"), Args: args("family", 2, "port", 443)}, "web", false},
		{"connect of another program", &controlv1.ExplainRequest{Event: "connect", Exe: []byte("/bin/x"), Args: args("family", 2, "port", 443)}, "web", true},
		{"connect by an unknown program", &controlv1.ExplainRequest{Event: "connect", Args: args("family", 2, "port", 443)}, "web", true},
		{"another port", &controlv1.ExplainRequest{Event: "connect", Exe: []byte("/t/bin/x"), Args: args("port", 80, "family", 2)}, "default", false},
		{"abstract socket", &controlv1.ExplainRequest{Event: "connect", Path: []byte("@bus"), Exe: []byte("/t/bin/x"), Args: args("family", 1)}, "bus", false},
		{"capability", &controlv1.ExplainRequest{Event: "capable", Exe: []byte("/t/bin/x"), Args: args("capability", 21)}, "admin", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := f.rules.Explain(f.ctx(), tt.req)
			if err != nil || got.GetRule() != tt.rule || got.GetOutOfScope() != tt.out {
				t.Errorf("got rule %s, out of scope %t, error %v; want %s, %t", got.GetRule(), got.GetOutOfScope(), err, tt.rule, tt.out)
			}
		})
	}
}

func TestExplainRefuses(t *testing.T) {
	f := newFixture(t, func(_ *Config, rc *RulesConfig) { rc.CgroupID = boxIDs }, nil)
	_, err := f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/a")})
	wantStatus(t, err, codes.NotFound, "no rules are in force", "arbiterctl rules push")
	f.push(ruleFile("a"))
	long := "/" + strings.Repeat("x", abi.PathBytes)
	for _, tt := range []struct {
		name  string
		req   *controlv1.ExplainRequest
		parts []string
	}{
		{"nothing", &controlv1.ExplainRequest{}, []string{`the event "" is none: write one of accept, `, "the path is empty"}},
		{"everything", &controlv1.ExplainRequest{Event: "connekt", Path: []byte("t"), Exe: []byte("sh\xff"), Cgroup: []byte("box")},
			[]string{`the event "connekt"`, `the path "t" is not absolute`, `the exe "sh\xff" is not absolute`, `the cgroup "box" is not absolute`}},
		{"long path", &controlv1.ExplainRequest{Event: "open", Path: []byte(long)}, []string{"the kernel presents at most 4095"}},
		{"NUL", &controlv1.ExplainRequest{Event: "open", Path: []byte("/t\x00")}, []string{`"/t\x00" holds a NUL byte`}},
		{"unknown access", &controlv1.ExplainRequest{Event: "open", Path: []byte("/t/a"), Access: []string{"read", "exec"}},
			[]string{`the access "exec" is none: give read, write, append, truncate or create`}},
		{"access of an exec", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/a"), Access: []string{"read"}}, []string{"leave it out"}},
		{"no path", &controlv1.ExplainRequest{Event: "unlink"}, []string{"the path is empty"}},
		{"a path of a capability", &controlv1.ExplainRequest{Event: "capable", Path: []byte("/a"), Detail: []byte("b")},
			[]string{"the event capable has no object: leave the path out", "the event capable has no detail: leave it out"}},
		{"a name of no socket", &controlv1.ExplainRequest{Event: "open", Path: []byte("@a")}, []string{`"@a" is not absolute`}},
		{"unknown argument", &controlv1.ExplainRequest{Event: "connect", Args: []*controlv1.Argument{{Name: "prt", Value: 1}}},
			[]string{"the event connect has no argument prt: connect has family, type"}},
		{"long detail", &controlv1.ExplainRequest{Event: "rename", Path: []byte("/a"), Detail: []byte(long)}, []string{"the detail has 4097 bytes"}},
		{"unknown cgroup", &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/a"), Cgroup: []byte("/box/out/er")},
			[]string{`"/box/out": there is no such cgroup`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := f.rules.Explain(f.ctx(), tt.req)
			wantStatus(t, err, codes.InvalidArgument, tt.parts...)
		})
	}
	f = newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	_, err = f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/a"), Cgroup: []byte("/box")})
	wantStatus(t, err, codes.InvalidArgument, "cannot be looked up here")
}

// A set that is kept explains what it decided when it was in force.
func TestExplainByEpoch(t *testing.T) {
	f := newFixture(t, nil, nil)
	f.push(ruleFile("a"))
	f.push(ruleFile("b"))
	q := &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/a")}
	for epoch, want := range map[uint64]string{0: "default", 1: "a", 2: "default"} {
		if q.Epoch = nil; epoch != 0 {
			q.Epoch = &epoch
		}
		x, err := f.rules.Explain(f.ctx(), q)
		if err != nil || x.GetRule() != want || epoch != 0 && x.GetEpoch() != epoch {
			t.Errorf("by epoch %d: rule %q of epoch %d, %v; want %q", epoch, x.GetRule(), x.GetEpoch(), err, want)
		}
	}
	q.Epoch = proto.Uint64(9)
	if _, err := f.rules.Explain(f.ctx(), q); status.Code(err) != codes.NotFound {
		t.Errorf("by an epoch that is not kept: %v, want NOT_FOUND", err)
	}
}

// TestExplainKept: what the decision depends on, who gives it again, and how a task waits.
func TestExplainKept(t *testing.T) {
	const inKernel = "version: 1\ndefault: allow\nscope: {paths: [/t]}\nrules:\n- {id: a, events: [connect], args: {port: 25}, verdict: deny}\n"
	exec, connect := &controlv1.ExplainRequest{Event: "exec", Path: []byte("/t/x")}, &controlv1.ExplainRequest{Event: "connect"}
	for _, tt := range []struct {
		name, rules, notKept string
		req                  *controlv1.ExplainRequest
		consulted            []string
		want                 *controlv1.ExplainKept
		waits                string
	}{
		{"kept by both", explainRules, "", exec, []string{"path", "exe", "uid", "cgroup"}, &controlv1.ExplainKept{}, "exec sleeps"},
		{"by no kernel side", explainRules, "fanotify keeps none", exec, []string{"path", "exe", "uid", "cgroup"}, &controlv1.ExplainKept{NotByKernel: "fanotify keeps none"}, "exec sleeps"},
		{"decided by no kernel side", inKernel, "fanotify keeps none", connect, []string{"args"}, &controlv1.ExplainKept{NotByKernel: "fanotify keeps none"}, "connect sleeps"},
		{"decided in the kernel", inKernel, "", connect, []string{"args"}, &controlv1.ExplainKept{InKernel: true}, "connect sleeps"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, func(c *Config, rc *RulesConfig) {
				rc.CgroupID = boxIDs
				c.Info = func() Info {
					return Info{NotKept: tt.notKept, Waits: func(e abi.Event) string { return e.String() + " sleeps" }}
				}
			}, nil)
			f.push(tt.rules)
			got, err := f.rules.Explain(f.ctx(), tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.consulted, got.GetConsulted()); diff != "" {
				t.Errorf("consulted (-want +got):\n%s", diff)
			}
			if tt.want.InKernel {
				tt.want.NotByWorker, tt.want.NotByKernel = got.GetKept().GetNotByWorker(), got.GetKept().GetNotByKernel()
			}
			if diff := cmp.Diff(tt.want, got.GetKept(), protocmp.Transform()); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			if got.GetWaits() != tt.waits {
				t.Errorf("waits: got %q, want %q", got.GetWaits(), tt.waits)
			}
		})
	}
}

// TestExplainProcessTrees: a subject is in the trees that are named, by their programs, whatever
// marks the rule set in force has for them; paths that no program can have are refused.
func TestExplainProcessTrees(t *testing.T) {
	f := newFixture(t, nil, nil)
	text := ruleFile("a") + "  - {id: of-sshd, events: [mkdir], subject: {process_tree: [/usr/sbin/sshd, /bin/x]}, verdict: deny}\n"
	f.push(text)
	try := func(want string, trees ...string) {
		t.Helper()
		got, err := f.rules.Explain(f.ctx(), &controlv1.ExplainRequest{Event: "mkdir", Path: []byte("/t/d"), ProcessTrees: byteSlices(trees)})
		if status.Code(err) == codes.InvalidArgument {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("in the trees of %q: %v, want %s", trees, err, want)
			}
			return
		}
		if err != nil || got.GetRule() != want {
			t.Errorf("in the trees of %q: %s, %v, want %s", trees, got.GetRule(), err, want)
		}
	}
	try("default")
	try("of-sshd", "/usr/sbin/sshd")
	try("of-sshd", "/usr/sbin/cron", "/bin/x")
	try("default", "/usr/sbin/cron")
	try(`the program of a process tree "sshd" is not absolute`, "sshd")
	live := f.engine.Rules()
	if err := f.engine.Install(t.Context(), live.WithMarks([]uint64{1 << 60, 1 << 61}, 5), cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	try("of-sshd", "/bin/x")
	try("default", "/usr/sbin/cron")
	// A program that was replaced is another one.
	if again := f.push(text); again.GetUnchanged() {
		t.Error("the same text is not pushed again, though its program can be another by now")
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually waits until it is so, 30 s at most.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !so(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// needsCgroup2 skips where a command cannot have a cgroup that rules name.
func needsCgroup2(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 || kernelbridge.CgroupRoot() == "" {
		t.Skip("needs root and cgroup v2: the command gets a cgroup of its own")
	}
}

// learner is "arbiterctl learn" under way, with a shell as the command that says that it
// has begun, waits for a line, and ends.
type learner struct {
	t         *testing.T
	d         *daemon
	dir, file string
	stdin     io.WriteCloser
	stdout    *bufio.Reader
	stderr    *lockedBuffer
	code      chan int
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// waitScript ends with the number that it reads.
const waitScript = `echo begun; read code; exit $code`

// startDaemonIn serves a fake daemon in a new directory.
func startDaemonIn(t *testing.T) (*daemon, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := newDaemon(filepath.Join(dir, "s"), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d, dir
}

func startLearn(t *testing.T, d *daemon, dir, script string, flags ...string) *learner {
	t.Helper()
	l := &learner{t: t, d: d, dir: dir, file: filepath.Join(dir, "learned.yaml"), stderr: &lockedBuffer{}, code: make(chan int, 1)}
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.stdin, l.stdout = stdin, bufio.NewReader(stdout)
	args := append([]string{"learn", "--socket", filepath.Join(dir, "s"), "-o", l.file}, flags...)
	args = append(args, "--", "sh", "-c", script)
	go func() {
		l.code <- testApp(in, out, l.stderr).run(args)
		in.Close()
		out.Close()
	}()
	t.Cleanup(func() { stdin.Close(); stdout.Close() })
	line, err := l.stdout.ReadString('\n')
	if line != "begun\n" {
		t.Fatalf("the command said %q, %v; learn: %s", line, err, l.stderr)
	}
	return l
}

// end lets the command end and returns what learn exits with.
func (l *learner) end(code string) int {
	l.t.Helper()
	if _, err := io.WriteString(l.stdin, code+"\n"); err != nil {
		l.t.Fatal(err)
	}
	return l.wait()
}

func (l *learner) wait() int {
	l.t.Helper()
	select {
	case got := <-l.code:
		return got
	case <-time.After(60 * time.Second):
		l.t.Fatalf("learn does not end: %s", l.stderr)
		return -1
	}
}

// proposal is the file; "" when there is none.
func (l *learner) proposal() string {
	text, err := os.ReadFile(l.file)
	if err != nil {
		return ""
	}
	return string(text)
}

func (l *learner) says(want ...string) {
	l.t.Helper()
	for _, w := range want {
		if got := l.stderr.String(); !strings.Contains(got, w) {
			l.t.Errorf("stderr lacks %q:\n%s", w, got)
		}
	}
}

// opened is an open as the rule of --observe records it.
func opened(path string) arbiter.Event {
	return arbiter.Event{Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "audit", Rule: "learn.open", TGID: 7, Exe: "/bin/app", Path: path}
}

// With --observe the set that asks is in force while the command runs and no longer; what
// another rule or the default says of others is not learned; the code is the command's.
func TestLearnObserve(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	l := startLearn(t, d, dir, waitScript, "--observe", "--scope", dir)
	if rs := d.engine.Rules(); rs.Epoch() != 1 || refuses(rs) {
		t.Errorf("epoch %d is in force while learning:\n%s", rs.Epoch(), rs.Source())
	}
	d.engine.Record(opened("/srv/app/a\x1b[2J"))
	other := opened("/srv/app/other")
	other.Rule = "default"
	d.engine.Record(other)
	late := opened("/srv/app/late")
	late.Late = true
	d.engine.Record(late)
	if code := l.end("3"); code != 3 {
		t.Errorf("exit code %d, want that of the command, 3", code)
	}
	if got := d.engine.Rules().Epoch(); got != 0 {
		t.Errorf("epoch %d is in force afterwards, want none", got)
	}
	p := l.proposal()
	if !strings.Contains(p, `"/srv/app/a\x1b[2J"`) || !strings.Contains(p, "/srv/app/late") || strings.Contains(p, "other") || strings.Contains(p, "INCOMPLETE") {
		t.Errorf("the proposal:\n%s", p)
	}
	l.says("epoch 1 asks and refuses nothing", "arbiterctl rules revert 1", `"sh" ended with 3`, "learned: 1 rule from 2 requests",
		"next: arbiterctl rules check --lint "+l.file, "next: arbiterctl rules push --confirm-within 2m "+l.file)
	if strings.Contains(l.stderr.String(), "\x1b") {
		t.Errorf("stderr has a control character: %q", l.stderr)
	}
	at, err := kernelbridge.FindOwnCgroup()
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(at.Mount, at.Path, "arbiter-learn-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("cgroups left behind: %v, %v", left, err)
	}
}

// refuses reports whether the set refuses an open that no rule knows.
func refuses(rs *rules.RuleSet) bool {
	return rs.Decide(&abi.Request{Event: abi.EventOpen}).Verdict.Action == rules.Deny
}

// What was missed is in the file, on stderr and in the exit code; --accept-loss leaves the
// exit code out.
func TestLearnTellsOfLoss(t *testing.T) {
	needsCgroup2(t)
	for _, tc := range []struct {
		name  string
		flags []string
		want  int
	}{{"told", nil, exitIncomplete}, {"accepted", []string{"--accept-loss"}, exitOK}} {
		t.Run(tc.name, func(t *testing.T) {
			d, dir := startDaemonIn(t)
			l := startLearn(t, d, dir, waitScript, append([]string{"--observe", "--scope", dir}, tc.flags...)...)
			d.engine.Record(arbiter.Event{Event: abi.EventOpen, Verdict: "allow", Reason: abi.ReasonNoWorker})
			d.engine.Record(arbiter.Event{Event: abi.EventOpen, Verdict: "allow", Reason: abi.ReasonInterrupted})
			d.engine.Record(arbiter.Event{Event: abi.EventMount, Verdict: "allow", Reason: abi.ReasonNoWorker})
			if code := l.end("0"); code != tc.want {
				t.Errorf("exit code %d, want %d", code, tc.want)
			}
			const line = "INCOMPLETE: 1 requests in the scope went on by a failure verdict"
			l.says(line)
			if p := l.proposal(); !strings.Contains(p, "# "+line) {
				t.Errorf("the proposal does not say %q:\n%s", line, p)
			}
		})
	}
}

// Rules that can refuse are suspended only by their own flag, and are in force again.
func TestLearnSuspendsNothingUnasked(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	file := filepath.Join(dir, "rules.yaml")
	if err := os.WriteFile(file, []byte("version: 1\ndefault: deny\nscope: {paths: [/srv/app]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (int, string) {
		var stderr bytes.Buffer
		code := testApp(nil, io.Discard, &stderr).run(append(args, "--socket", filepath.Join(dir, "s")))
		return code, stderr.String()
	}
	if code, text := run("rules", "push", file); code != exitOK {
		t.Fatal(text)
	}
	code, text := run("learn", "--observe", "--scope", dir, "-o", filepath.Join(dir, "x"), "--cgroup", "/a")
	if code != exitStale || !strings.Contains(text, "epoch 1 is in force and can refuse something") || !strings.Contains(text, "next: or let them not hold meanwhile: --suspend-rules") {
		t.Errorf("exit code %d, %s", code, text)
	}
	if _, err := os.Stat(filepath.Join(dir, "x")); err == nil {
		t.Error("the empty file was left behind")
	}
	l := startLearn(t, d, dir, waitScript, "--observe", "--suspend-rules", "--scope", dir)
	if rs := d.engine.Rules(); rs.Epoch() != 2 {
		t.Errorf("epoch %d is in force while learning, want 2", rs.Epoch())
	}
	if code := l.end("0"); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if rs := d.engine.Rules(); rs.Epoch() != 1 {
		t.Errorf("epoch %d is in force afterwards, want 1", rs.Epoch())
	}
}

// Somebody confirmed the set that asks, so that it cannot be taken back: that is said.
func TestLearnWhenSomebodyConfirms(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	l := startLearn(t, d, dir, waitScript, "--observe", "--scope", dir)
	if code := testApp(nil, io.Discard, io.Discard).run([]string{"rules", "confirm", "1", "--socket", filepath.Join(dir, "s")}); code != exitOK {
		t.Fatalf("confirm: exit code %d", code)
	}
	if code := l.end("0"); code != exitIncomplete {
		t.Errorf("exit code %d, want %d", code, exitIncomplete)
	}
	l.says("epoch 1, which asks, could not be taken back", "look at arbiterctl status")
}

// The stream ends with the daemon: what came until then is proposed, and that is said.
func TestLearnWhenTheDaemonStops(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	l := startLearn(t, d, dir, waitScript, "--observe", "--scope", dir)
	d.engine.Record(opened("/srv/app/before"))
	eventually(t, "that the event was sent", func() bool { return d.engine.Stats().LastSeq == 1 })
	d.stop()
	if code := l.end("0"); code != exitIncomplete {
		t.Errorf("exit code %d, want %d", code, exitIncomplete)
	}
	l.says("INCOMPLETE: the daemon ended the stream of events")
}

// What the command leaves behind is named, and ended only when that is asked for.
func TestLearnLeavesProcesses(t *testing.T) {
	needsCgroup2(t)
	for _, kill := range []bool{false, true} {
		d, dir := startDaemonIn(t)
		flags := []string{"--observe", "--scope", dir}
		if kill {
			flags = append(flags, "--kill")
		}
		// The one that is left lives as long as the pipe that is its stdin.
		l := startLearn(t, d, dir, `exec 3<&0; cat <&3 >/dev/null 2>&1 & echo begun; echo $!`, flags...)
		pid, err := l.stdout.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if code := l.wait(); code != exitOK {
			t.Errorf("kill %v: exit code %d: %s", kill, code, l.stderr)
		}
		named := strings.Contains(l.stderr.String(), "has left running, in the cgroup")
		_, gone := os.Stat("/proc/" + strings.TrimSpace(pid) + "/exe")
		if named == kill || (gone != nil) != kill {
			t.Errorf("kill %v: named %v, gone %v\n%s", kill, named, gone, l.stderr)
		}
		if kill {
			continue
		}
		l.stdin.Close()
		left := cgroupIn(t, l.stderr.String())
		eventually(t, "the end of "+left, func() bool { return os.Remove(left) == nil })
	}
}

// cgroupIn returns the directory of the cgroup that stderr names.
func cgroupIn(t *testing.T, text string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "in the cgroup ")
	path, _, _ := strings.Cut(rest, ":")
	if !ok {
		t.Fatalf("no cgroup in %q", text)
	}
	return kernelbridge.CgroupRoot() + path
}

// --for ends a command that does not end by itself.
func TestLearnForATime(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	l := startLearn(t, d, dir, waitScript, "--observe", "--scope", dir, "--for", "1s")
	if code := l.wait(); code != 128+15 {
		t.Errorf("exit code %d, want that of SIGTERM, 143", code)
	}
	l.says("the time given with --for is over")
	if l.proposal() == "" {
		t.Error("there is no proposal")
	}
}

// Under the rules in force nothing is pushed, only the command's own requests are learned,
// and what was refused to it is not proposed.
func TestLearnFromTheRulesInForce(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	const text = `version: 1
default: deny
scope: {paths: [/srv]}
rules:
  - {id: facts, events: [open, exec], subject: {exe: /bin/x}, object: {path: /srv/x}, verdict: allow}
  - {id: access, events: [open], access: [read], verdict: allow}
`
	rs, err := rules.Load("r", []byte(text), rules.Options{Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.engine.Install(context.Background(), rs, cache.RulesPushed); err != nil {
		t.Fatal(err)
	}
	l := startLearn(t, d, dir, `echo begun; echo $$; read code; exit $code`, "--scope", "/srv", "--default", "deny")
	pid, err := l.stdout.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	ours := uint32(atoi(t, strings.TrimSpace(pid)))
	for _, e := range []arbiter.Event{
		{Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "allow", Rule: "access", Path: "/srv/ours", Exe: "/bin/app", TGID: ours, Epoch: 1},
		{Event: abi.EventOpen, Access: abi.AccessRead, Verdict: "allow", Rule: "access", Path: "/srv/others", Exe: "/bin/app", TGID: 1, Epoch: 1},
		{Event: abi.EventOpen, Access: abi.AccessWrite, Verdict: "deny", Rule: "default", Path: "/srv/refused", Exe: "/bin/app", TGID: ours, Epoch: 1},
		{Event: abi.EventMount, Verdict: "allow", Rule: "access", Path: "/srv/mount", Exe: "/bin/app", TGID: ours, Epoch: 1},
	} {
		d.engine.Record(e)
	}
	if code := l.end("0"); code != exitOK {
		t.Errorf("exit code %d: %s", code, l.stderr)
	}
	p := l.proposal()
	if !strings.Contains(p, "/srv/ours") || strings.Contains(p, "others") || strings.Contains(p, "refused") || strings.Contains(p, "/srv/mount") {
		t.Errorf("the proposal:\n%s", p)
	}
	l.says("not proposed: 1 request that the rules in force refused")
	if got := d.engine.Rules().Epoch(); got != 1 {
		t.Errorf("epoch %d is in force, want 1: nothing was pushed", got)
	}
}

// What runs in a cgroup is learned until Ctrl-C, and what it does later is no loss.
func TestLearnCgroupUntilInterrupted(t *testing.T) {
	needsCgroup2(t)
	d, dir := startDaemonIn(t)
	stderr, file := &lockedBuffer{}, filepath.Join(dir, "learned.yaml")
	code := make(chan int, 1)
	go func() {
		code <- testApp(nil, io.Discard, stderr).run([]string{"learn", "--socket", filepath.Join(dir, "s"), "--observe", "--scope", dir, "--cgroup", "/app", "-o", file})
	}()
	eventually(t, "the set that asks", func() bool { return d.engine.Rules().Epoch() == 1 })
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	// It goes on all the time.
	got := -1
	eventually(t, "the end", func() bool {
		d.engine.Record(opened("/srv/app/b"))
		select {
		case got = <-code:
			return true
		default:
			return false
		}
	})
	if got != exitOK {
		t.Errorf("exit code %d, want 0: %s", got, stderr)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "/srv/app/b") || !strings.Contains(string(text), "# cgroup: /app") {
		t.Errorf("the proposal: %v\n%s", err, text)
	}
	if got := d.engine.Rules().Epoch(); got != 0 {
		t.Errorf("epoch %d is in force afterwards, want none", got)
	}
}

// The gaps of rules in force.
func TestGaps(t *testing.T) {
	all := []abi.Event{abi.EventOpen, abi.EventConnect}
	const whole = "scope: {paths: [/srv]}\nrules: [{id: a, events: [open], subject: {exe: /x}, object: {path: /y}, access: [read], verdict: deny}, {id: b, events: [connect], subject: {exe: /x}, object: {path: /y}, verdict: deny}]\n"
	for _, tc := range []struct{ name, text, want string }{
		{"none", whole, ""},
		{"another scope", strings.Replace(whole, "/srv]", "/srv/b]", 1), `"/srv/a" is not in their scope`},
		{"a scope by user", strings.Replace(whole, "paths: [/srv]", "paths: [/srv], uids: 5", 1), "their scope is by uids too"},
		{"a mute", "mute: {exes: [/bin/x]}\n" + whole, "they leave something alone"},
		{"an event", strings.Replace(whole, "[connect]", "[bind]", 1), "they do not ask about connect"},
		{"a fact", strings.Replace(whole, "access: [read], ", "", 1), "no rule about open looks at access"},
	} {
		rs, err := rules.Load("r", []byte("version: 1\ndefault: allow\n"+tc.text), rules.Options{})
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(gaps(rs, []string{"/srv/a"}, all), "\n")
		if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// In cgroup v1 the command is in its cgroup before it runs, and we are where we were.
func TestCgroupV1(t *testing.T) {
	const mount = "/sys/fs/cgroup/pids"
	if _, err := os.Stat(mount + "/tasks"); err != nil || os.Geteuid() != 0 {
		t.Logf("no cgroup v1 here, or no root: %v", err)
		return
	}
	ours := func() string {
		text, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), ":pids:")
		path, _, _ := strings.Cut(rest, "\n")
		return path
	}
	before := ours()
	c := &cgroup{path: "/arbiter-test-" + strconv.Itoa(os.Getpid()), own: mount + before}
	c.dir = mount + c.path
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		t.Logf("no cgroup v1 that can be written: %v", err)
		return
	}
	var out bytes.Buffer
	run := exec.Command("cat", "/proc/self/cgroup")
	run.Stdout = &out
	if err := c.start(run); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err != nil || !strings.Contains(out.String(), ":pids:"+c.path+"\n") {
		t.Errorf("the command was in %q, %v, want %s", &out, err, c.path)
	}
	if err := c.remove(); err != nil {
		t.Errorf("removing the cgroup, in which nobody is any more: %v", err)
	}
	if got := ours(); got != before {
		t.Errorf("we are in %s, want %s", got, before)
	}
}

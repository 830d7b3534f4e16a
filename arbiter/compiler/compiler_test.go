// SPDX-License-Identifier: Apache-2.0

package compiler

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/rules"
)

func TestMain(m *testing.M) {
	Main()
	goleak.VerifyTestMain(m)
}

// large returns a rule file of more than From bytes, with one cgroup, one process tree, and of
// everything else some.
func large(more string) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/srv]}\nsets: {office: [10.0.0.0/8, 192.168.0.0/16]}\nrules:\n")
	b.WriteString("- {id: box, events: [open], subject: {cgroup: /box}, verdict: deny}\n")
	b.WriteString("- {id: tree, events: [open], subject: {process_tree: /usr/bin/true}, verdict: deny}\n")
	b.WriteString("- {id: office, events: [open], times: {hours: \"09:00-17:00\"}, verdict: deny}\n")
	fmt.Fprintf(&b, "- {id: sum, events: [exec], object: {sha256: [\"%064x\"], format: elf}, verdict: deny}\n", 1)
	fmt.Fprintf(&b, "- {id: verity, events: [exec], object: {fsverity: [\"sha256:%064x\"]}, verdict: audit}\n", 2)
	b.WriteString(`- {id: net, events: [connect], args: {addr: "@office", port: [1-1023, 8080]}, verdict: deny}
- {id: who, events: [open], subject: {uid: [0, 1000-1999], loginuid: 1000, capabilities: {any: [CAP_SYS_ADMIN]}}, verdict: deny}
- {id: what, events: [open], object: {size: [0-4096], owner: 0, mode: {any: [setuid]}}, access: [write], verdict: deny}
- {id: when, events: [open], when: 'subject.uid != subject.euid && object.path.matches("^/srv/.*[.]so$")', verdict: deny, deadline: 5ms}
- {id: night, events: [open], times: {days: [mon-fri], hours: "22:00-06:00", zone: UTC}, verdict: deny, expires: 2030-01-01T00:00:00Z}
- {id: once, events: [open], not: {object: {path: /srv/z}}, verdict: deny, lifespan: once, owner: me, reason: so, ticket: T-1}
`)
	for i := 0; b.Len() <= From; i++ {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: ['/srv/%d/**', '/srv/*/%d']}, verdict: {deny: EPERM}}\n", i, i, i)
	}
	b.WriteString(more)
	return b.Bytes()
}

// machine has the cgroup and the program that large names, and calls during each time one of
// them is looked up.
func machine(during func()) rules.Options {
	return rules.Options{Epoch: 7,
		CgroupID: func(path string) (uint64, error) {
			during()
			if path != "/box" {
				return 0, fmt.Errorf("no cgroup %s", path)
			}
			return 42, nil
		},
		Program: func(path string) (dev, ino uint64, err error) {
			during()
			return uint64(len(path)), 2, nil
		}}
}

// children returns the pids of the processes that compile for this one.
func children(t *testing.T) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range lines {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		text, _ := os.ReadFile(name) // it may have ended
		status, _ := os.ReadFile(filepath.Join(filepath.Dir(name), "status"))
		if string(text) == argZero+"\x00" && bytes.Contains(status, []byte("\nPPid:\t"+strconv.Itoa(os.Getpid())+"\n")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// nobodyLeft waits until the processes of c have ended, and looks whether that is so.
func nobodyLeft(t *testing.T, c *Compiler) {
	t.Helper()
	for range atOnce {
		select {
		case c.running <- struct{}{}:
		case <-time.After(20 * time.Second):
			t.Fatal("a process still runs that has nothing more to do")
		}
	}
	for range atOnce {
		<-c.running
	}
	if pids := children(t); len(pids) > 0 {
		t.Errorf("the processes %v are left", pids)
	}
	var st unix.WaitStatus
	if pid, err := unix.Wait4(-1, &st, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("nobody has waited for a process: %d, %v", pid, err)
	}
}

// child returns the pid of the one that there has to be.
func child(t *testing.T) int {
	t.Helper()
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("the processes that compile are %v, want one", pids)
	}
	return pids[0]
}

func TestLargeRulesAreCompiledApart(t *testing.T) {
	src := large("")
	asked := 0
	o := machine(func() { child(t); asked++ })
	c := New(nil, nil, nil)
	got, err := c.Load(t.Context(), "large.yaml", src, o)
	if err != nil {
		t.Fatal(err)
	}
	if asked != 2 {
		t.Errorf("%d questions about the machine, want 2", asked)
	}
	want, err := rules.Load("large.yaml", src, machine(func() {}))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Error("another rule set than rules.Load makes")
	}
	nobodyLeft(t, c)
}

func TestSmallRulesAreCompiledHere(t *testing.T) {
	src := []byte("version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules:\n- {id: box, events: [open], subject: {cgroup: /box}, verdict: deny}\n")
	asked := false
	_, err := New(nil, nil, nil).Load(t.Context(), "small.yaml", src, machine(func() {
		asked = true
		if pids := children(t); len(pids) > 0 {
			t.Errorf("the processes %v compile a small file", pids)
		}
	}))
	if err != nil || !asked {
		t.Errorf("Load: %v; asked about the machine: %t, want true", err, asked)
	}
}

func TestProblemsAreThoseOfRules(t *testing.T) {
	for _, wrong := range []string{
		"- {id: last, events: [open], verdict: perhaps}\n",
		"- {id: last, events: [open], subject: {cgroup: /gone}, verdict: deny}\n",
		"- {id: last, events: [open], when: 'object.path ==', verdict: deny}\n",
		"\x00",
	} {
		src := large(wrong)
		_, got := New(nil, nil, nil).Load(t.Context(), "wrong.yaml", src, machine(func() {}))
		_, want := rules.Load("wrong.yaml", src, machine(func() {}))
		var problems rules.Problems
		if !errors.As(got, &problems) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", wrong, got, want)
		}
	}
}

func TestKilledProcess(t *testing.T) {
	c := New(nil, nil, nil)
	_, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {
		if err := unix.Kill(child(t), unix.SIGKILL); err != nil {
			t.Error(err)
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "signal: killed") || !strings.Contains(err.Error(), "memory has run out") {
		t.Errorf("Load with a process that is killed: %v, want that said, and what to do", err)
	}
	if _, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {})); err != nil {
		t.Errorf("the next Load: %v", err)
	}
	nobodyLeft(t, c)
}

func TestCanceledLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c := New(nil, nil, nil)
	_, err := c.Load(ctx, "large.yaml", large(""), machine(cancel))
	if !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "memory") {
		t.Errorf("Load: %v, want the error of its context, and nothing else", err)
	}
	nobodyLeft(t, c)
}

// TestPlacesAreGivenBack: however a load ends, and who waits for one is bound by its context.
func TestPlacesAreGivenBack(t *testing.T) {
	fail := false
	c := New(nil, nil, func(start func() error) error {
		if fail {
			return errors.New("it must not be executed")
		}
		return start()
	})
	ctx, cancel := context.WithCancel(t.Context())
	for range atOnce {
		c.running <- struct{}{}
	}
	cancel()
	if _, err := c.Load(ctx, "large.yaml", large(""), machine(func() {})); !errors.Is(err, context.Canceled) {
		t.Errorf("Load while others take all places: %v, want the error of its context", err)
	}
	for range atOnce {
		<-c.running
	}
	here := func() { t.Error("the daemon compiles for somebody who has gone") }
	if _, err := c.Load(ctx, "large.yaml", large(""), machine(here)); !errors.Is(err, context.Canceled) {
		t.Errorf("Load for who has gone: %v, want the error of its context", err)
	}
	for range 2 * atOnce {
		fail = true
		if _, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {})); err != nil {
			t.Errorf("Load without a process: %v", err)
		}
		fail = false
		if _, err := c.Load(t.Context(), "wrong.yaml", large("\x00"), machine(func() {})); err == nil {
			t.Error("a wrong file was compiled")
		}
		if _, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {})); err != nil {
			t.Error(err)
		}
	}
	nobodyLeft(t, c)
}

// TestOwnFile: the process is started by who was given for that.
func TestOwnFile(t *testing.T) {
	inside := false
	exec := func(start func() error) error {
		inside = true
		return errors.Join(start(), errors.New("the mark is there still"))
	}
	var log bytes.Buffer
	c := New(slog.New(slog.NewTextHandler(&log, nil)), nil, exec)
	_, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {}))
	if err != nil || !inside || !strings.Contains(log.String(), "the mark is there still") {
		t.Errorf("Load: %v; started inside: %t; the log says %q; want the rules, true, and why they were compiled here", err, inside, log.String())
	}
	nobodyLeft(t, c)
}

// TestNoProcess: rules are compiled nevertheless, and the log says what that costs.
func TestNoProcess(t *testing.T) {
	before := executable
	defer func() { executable = before }()
	for _, executable = range []string{"/bin/true", "/nowhere/at/all"} {
		var log bytes.Buffer
		_, err := New(slog.New(slog.NewTextHandler(&log, nil)), nil, nil).Load(t.Context(), "large.yaml", large(""), machine(func() {}))
		if err != nil {
			t.Errorf("%s: Load: %v", executable, err)
		}
		if !strings.Contains(log.String(), "in the daemon itself") {
			t.Errorf("%s: the log says %q", executable, log.String())
		}
	}
}

// TestNobodyListens: the process ends with the daemon.
func TestNobodyListens(t *testing.T) {
	p, err := New(nil, nil, nil).start(t.Context(), os.Stdin, os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	p.end(true)
	if p.cmd.ProcessState.Success() {
		t.Error("the process says that it has done what nobody asked for")
	}
}

// TestBehindEverybodyElse: for a while the process runs when nobody else wants its CPU, then as
// others, and it goes first when memory runs out.
func TestBehindEverybodyElse(t *testing.T) {
	want := []string{strconv.Itoa(unix.SCHED_IDLE)}
	if withCgo() {
		want = []string{strconv.Itoa(unix.SCHED_NORMAL)}
	}
	begin := time.Now()
	p, err := New(nil, nil, nil).start(t.Context(), os.Stdin, os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	defer p.end(false)
	var up message
	if err := gob.NewDecoder(p.asks).Decode(&up); err != nil {
		t.Fatal(err)
	}
	pid := p.cmd.Process.Pid
	if got := policies(t, pid); !slices.Equal(got, want) && time.Since(begin) < idleFor {
		t.Errorf("the threads have the policies %q, want %q", got, want)
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err != nil || string(score) != "1000\n" {
		t.Errorf("oom_score_adj: %q, %v, want 1000", score, err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(idleFor + 20*time.Second)
	for !slices.Equal(policies(t, pid), []string{strconv.Itoa(unix.SCHED_NORMAL)}) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("after %v the threads have the policies %q still", idleFor, policies(t, pid))
		}
	}
}

// withCgo reports whether this is built with cgo, as for the race detector: then threads are left
// as they are.
func withCgo() bool {
	_, _, err := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0)
	return err == syscall.ENOTSUP
}

// TestOffTheWorkersCPU: if there is another one.
func TestOffTheWorkersCPU(t *testing.T) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	worker := 0
	for !all.IsSet(worker) {
		worker++
	}
	want := all
	if all.Count() > 1 && !withCgo() {
		want.Clear(worker)
	}
	looked := false
	_, err := New(nil, []int{worker, -1}, nil).Load(t.Context(), "large.yaml", large(""), machine(func() {
		looked = true
		var got unix.CPUSet
		if err := unix.SchedGetaffinity(child(t), &got); err != nil || got != want {
			t.Errorf("it runs on %v, error %v; want %v, for a worker is on %d", got, err, want, worker)
		}
	}))
	if err != nil || !looked {
		t.Errorf("Load: %v; looked: %t", err, looked)
	}
}

// policies returns those that the threads of a process have, each once; see sched(7), and
// proc_pid_stat(5) for the field.
func policies(t *testing.T, pid int) (found []string) {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("the threads of %d: %v, %v", pid, threads, err)
	}
	for _, name := range threads {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		const policy = 41 - 3 // counted from behind the name
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		found = append(found, fields[policy])
	}
	slices.Sort(found)
	return slices.Compact(found)
}

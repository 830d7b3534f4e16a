// SPDX-License-Identifier: Apache-2.0

package compiler

import (
	"bytes"
	"context"
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

// large returns a rule file of more than From bytes, with one cgroup and one process tree.
func large(more string) []byte {
	var b bytes.Buffer
	b.WriteString("version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules:\n")
	b.WriteString("- {id: box, events: [open], subject: {cgroup: /box}, verdict: deny}\n")
	b.WriteString("- {id: tree, events: [open], subject: {process_tree: /usr/bin/true}, verdict: deny}\n")
	b.WriteString("- {id: office, events: [open], times: {hours: \"09:00-17:00\"}, verdict: deny}\n")
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
	got, err := New(nil, nil).Load(t.Context(), "large.yaml", src, o)
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
	if pids := children(t); len(pids) > 0 {
		t.Errorf("the processes %v are left", pids)
	}
}

func TestSmallRulesAreCompiledHere(t *testing.T) {
	src := []byte("version: 1\ndefault: allow\nscope: {paths: [/srv]}\nrules:\n- {id: box, events: [open], subject: {cgroup: /box}, verdict: deny}\n")
	asked := false
	_, err := New(nil, nil).Load(t.Context(), "small.yaml", src, machine(func() {
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
		_, got := New(nil, nil).Load(t.Context(), "wrong.yaml", src, machine(func() {}))
		_, want := rules.Load("wrong.yaml", src, machine(func() {}))
		var problems rules.Problems
		if !errors.As(got, &problems) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", wrong, got, want)
		}
	}
}

func TestKilledProcess(t *testing.T) {
	c := New(nil, nil)
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
}

func TestCanceledLoad(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, err := New(nil, nil).Load(ctx, "large.yaml", large(""), machine(cancel))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Load: %v, want the error of its context", err)
	}
	if pids := children(t); len(pids) > 0 {
		t.Errorf("the processes %v are left", pids)
	}
}

// TestOneAfterAnother: who waits for the file before gives up with its context.
func TestOneAfterAnother(t *testing.T) {
	c := New(nil, nil)
	_, err := c.Load(t.Context(), "large.yaml", large(""), machine(func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Load(ctx, "second.yaml", large(""), rules.Options{}); !errors.Is(err, context.Canceled) {
			t.Errorf("a second Load: %v, want the error of its context", err)
		}
	}))
	if err != nil {
		t.Error(err)
	}
}

// TestNoProcess: rules are compiled nevertheless, and the log says what that costs.
func TestNoProcess(t *testing.T) {
	before := executable
	defer func() { executable = before }()
	for _, executable = range []string{"/bin/true", "/nowhere/at/all"} {
		var log bytes.Buffer
		_, err := New(slog.New(slog.NewTextHandler(&log, nil)), nil).Load(t.Context(), "large.yaml", large(""), machine(func() {}))
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
	p, err := start(t.Context(), 1, os.Stdin, os.Stdin)
	if err != nil {
		t.Fatal(err)
	}
	p.end(false)
	if p.cmd.ProcessState.Success() {
		t.Error("the process says that it has done what nobody asked for")
	}
}

// TestBehindEverybodyElse: for a while the process runs when nobody else wants its CPU, then as
// others, and it goes first when memory runs out.
func TestBehindEverybodyElse(t *testing.T) {
	want := []string{strconv.Itoa(unix.SCHED_IDLE)}
	if _, _, err := syscall.AllThreadsSyscall(unix.SYS_GETPID, 0, 0, 0); err == syscall.ENOTSUP {
		want = []string{strconv.Itoa(unix.SCHED_NORMAL)} // built with cgo, for the race detector
	}
	first := true
	_, err := New(nil, nil).Load(t.Context(), "large.yaml", large(""), machine(func() {
		if !first {
			return
		}
		first = false
		pid := child(t)
		if got := policies(t, pid); !slices.Equal(got, want) {
			t.Errorf("the threads have the policies %q, want %q", got, want)
		}
		score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
		if err != nil || string(score) != "1000\n" {
			t.Errorf("oom_score_adj: %q, %v, want 1000", score, err)
		}
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		deadline := time.After(idleFor + 10*time.Second)
		for !slices.Equal(policies(t, pid), []string{strconv.Itoa(unix.SCHED_NORMAL)}) {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatalf("after %v the threads have the policies %q still", idleFor, policies(t, pid))
			}
		}
	}))
	if err != nil {
		t.Error(err)
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge"
)

func TestSecondDaemon(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	cmd, log := daemonCommand(dir)
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(log.String(), d.socket) {
		t.Errorf("a second daemon on the same socket: %v, %q; want exit 1 naming the socket", err, log)
	}
	if d.status().Backend == "" {
		t.Error("the first daemon does not answer any more")
	}
}

// A set that cannot be kept changes nothing.
func TestRefusedPush(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	_, err := pb.NewRulesServiceClient(d.conn).Push(t.Context(), &pb.PushRequest{Name: "x",
		Source: []byte("version: 1\ndefault: deny\nscope: {paths: [" + dir + "/nowhere]}\n")})
	if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a scope that is not there: %v, want FAILED_PRECONDITION naming it", err)
	}
	if s := d.status(); s.Epoch != 1 {
		t.Errorf("epoch %d after a refused push, want 1", s.Epoch)
	}
	d.soon(unix.EPERM, "bad")
}

func TestReload(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	file := dir + "/rules.yaml"
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(ruleText(dir, "EACCES"))
	d := startDaemon(t, dir, "--rules", file)
	if s := d.status(); s.Epoch != 1 {
		t.Fatalf("epoch %d at the first start, want 1: the rule file", s.Epoch)
	}
	write("version: 1\nnonsense\n")
	d.cmd.Process.Signal(unix.SIGHUP)
	d.until("the refusal in the log", func() bool { return strings.Contains(d.log.String(), "the rules in force stay") })
	if s := d.status(); s.Epoch != 1 {
		t.Errorf("epoch %d after a bad reload, want 1", s.Epoch)
	}
	write(strings.Replace(ruleText(dir, "EACCES"), "/tree/bad", "/tree/good", 1))
	d.cmd.Process.Signal(unix.SIGHUP)
	d.until("epoch 2", func() bool { return d.status().Epoch == 2 })
	d.soon(unix.EPERM, "good")
}

func (d *runs) until(what string, cond func() bool) {
	d.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); !cond(); {
		select {
		case <-tick.C:
		case <-end:
			d.t.Fatalf("waiting for %s\n%s", what, d.log)
		}
	}
}

// A damaged store is set aside and reported, and the last good set is in force.
func TestDamagedStore(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.push(strings.Replace(ruleText(dir, "EACCES"), "/tree/bad", "/tree/good", 1))
	d.kill() // no clean stop either
	files, err := filepath.Glob(dir + "/state/*2.rules")
	if err != nil || len(files) != 1 {
		t.Fatalf("the file of epoch 2: %v %v", files, err)
	}
	if err := os.Truncate(files[0], 100); err != nil {
		t.Fatal(err)
	}
	d = startDaemon(t, dir)
	s := d.status()
	if s.Epoch != 1 || len(s.GetStore().GetIncidents()) == 0 {
		t.Errorf("epoch %d, incidents %v; want 1 and a report", s.Epoch, s.GetStore().GetIncidents())
	}
	d.soon(unix.EPERM, "bad")
	if got := d.push(ruleText(dir, "EIO")); got.Epoch <= 2 {
		t.Errorf("the next epoch is %d, want one never used", got.Epoch)
	}
}

// freeze stops the daemon and returns when none of its threads runs any more.
func (d *runs) freeze() {
	d.t.Helper()
	if err := d.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		d.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; unix.Poll(nil, 1) {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
		running := err != nil || len(threads) == 0
		for _, name := range threads {
			stat, err := os.ReadFile(name)
			_, state, _ := strings.Cut(string(stat), ") ") // proc_pid_stat(5): T is stopped
			running = running || err != nil || !strings.HasPrefix(state, "T")
		}
		if !running {
			return
		}
		if time.Now().After(end) {
			d.t.Fatal("the daemon runs 10 s after SIGSTOP")
		}
	}
}

func TestWithoutPrivilege(t *testing.T) {
	dir := newTree(t)
	for _, path := range []string{dir, filepath.Dir(dir), filepath.Join(dir, "tree")} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd, log := daemonCommand(dir)
	cmd.Path = filepath.Join(dir, "tree/good") // a copy: the test's own folder is closed to others
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(log.String(), "root") {
		t.Errorf("without privilege: %v, %q; want exit 1 and what to do", err, log)
	}
}

func TestBackendThatIsNotThere(t *testing.T) {
	if inGuest() {
		t.Skip("this kernel has BPF LSM; the test is about one that has not")
	}
	dir := newTree(t)
	lsm := kernelbridge.Feature{}
	for _, f := range kernelbridge.Probe() {
		if f.Name == kernelbridge.FeatureLSM {
			lsm = f
		}
	}
	if lsm.Outcome != kernelbridge.No {
		t.Skip("this kernel has BPF LSM; the test is about one that has not")
	}
	cmd, log := daemonCommand(dir, "--backend", "bpf-lsm")
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(log.String(), "backend: auto") || !strings.Contains(log.String(), "doctor") {
		t.Errorf("bpf-lsm on a kernel without: %v, %q; want exit 1 and the next step", err, log)
	}
}

// A worker whose CPU goes offline shares another one with those who ask. Everybody gets a
// verdict, the worker's where a task can sleep until it comes; status says what is wrong,
// and nothing is when the CPU is back.
func TestCPUOffline(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: it takes a CPU offline")
	}
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.soon(unix.EPERM, "bad")
	online := func(v string) {
		t.Helper()
		if err := os.WriteFile("/sys/devices/system/cpu/cpu1/online", []byte(v), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	displaced := func() bool {
		return slices.ContainsFunc(d.status().Warnings, func(w string) bool { return strings.HasPrefix(w, "CPU 1 is not to be had") })
	}
	online("0")
	t.Cleanup(func() { online("1") })
	got := map[string]int{}
	for range 20 {
		begun := time.Now()
		err := openErrno(d.tree + "/secret")
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("an open took %v with one CPU less", took)
		}
		got[fmt.Sprint(err)]++
	}
	t.Attr("seen", fmt.Sprintf("opens with the worker's CPU offline: %v", got))
	// As soon does: under emulation the daemon's heart can be late.
	if sleeps := kernelbridge.CanSleep() == nil; sleeps && got["permission denied"] < 15 || got["permission denied"]+got["<nil>"] != 20 {
		t.Errorf("opens of the secret: %v, want the rule's EACCES, or the failure verdict, success, where nobody can sleep (can: %t)", got, sleeps)
	}
	d.until("a warning", displaced)
	online("1")
	d.until("no warning", func() bool { return !displaced() })
	for range 5 {
		d.soon(unix.EPERM, "bad")
	}
}

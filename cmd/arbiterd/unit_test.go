// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge"
)

// What the unit leaves the daemon; TestUnit holds both to init/arbiterd.service, which is not in
// the virtual machine.
var (
	unitCapabilities = map[string]int{"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN,
		"CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_SYS_NICE": unix.CAP_SYS_NICE,
		"CAP_SYS_RESOURCE": unix.CAP_SYS_RESOURCE, "CAP_CHOWN": unix.CAP_CHOWN, "CAP_LEASE": unix.CAP_LEASE,
		"CAP_SYSLOG": unix.CAP_SYSLOG, "CAP_KILL": unix.CAP_KILL}
	unitSystemCalls = map[string]uint32{"bpf": unix.SYS_BPF, "fanotify_init": unix.SYS_FANOTIFY_INIT, "fanotify_mark": unix.SYS_FANOTIFY_MARK,
		"fsopen": unix.SYS_FSOPEN, "fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT}
)

// dropEnv names a capability that the daemon shall lack as well.
const dropEnv = "ARBITER_TEST_DROP"

// systemService has the numbers and names of @system-service.
//
//go:embed testdata/system-service.txt
var systemService string

// confine executes the daemon with what the unit leaves it: capabilities, system calls, no new
// privileges, no memory that is written and executed.
func confine(args []string) error {
	runtime.LockOSThread()
	for c := range unix.CAP_LAST_CAP + 1 {
		if !slices.Contains(slices.Collect(maps.Values(unitCapabilities)), c) || c == unitCapabilities[os.Getenv(dropEnv)] {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
				return fmt.Errorf("dropping capability %d: %w", c, err)
			}
		}
	}
	_ = unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) // Linux 6.3 and later
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // seccomp_data.nr
	allow := func(number uint32) {
		filter = append(filter, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: number},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	}
	for line := range strings.Lines(systemService) {
		number, _, _ := strings.Cut(line, " ")
		if n, err := strconv.ParseUint(number, 10, 32); err == nil {
			allow(uint32(n))
		}
	}
	for _, n := range unitSystemCalls {
		allow(n)
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	if err := setFilter(filter); err != nil {
		return fmt.Errorf("setting the filter of %d instructions: %w", len(filter), err)
	}
	if err := os.Setenv(roleEnv, "daemon"); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", args, os.Environ())
}

// confined is role confined: a daemon as the unit starts it.
func confined(args []string) int {
	fmt.Fprintln(os.Stderr, confine(args))
	return 1
}

// startConfined starts a daemon as the unit does, in a tree that other users can reach.
func startConfined(t *testing.T, args ...string) *runs {
	t.Helper()
	dir := newTree(t)
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	notify := listenNotify(t)
	cmd, log := daemonCommand(dir, args...)
	cmd.Env = append(cmd.Env, roleEnv+"=confined")
	return startCommand(t, cmd, log, dir, notify)
}

// The daemon does under the unit what it does without: each backend, sleeps, pinned hooks, protection,
// and verdicts about files and processes of others.
func TestUnitIsEnough(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: it drops capabilities")
	}
	f := func(backend, more string) {
		t.Run(backend, func(t *testing.T) {
			config := writeConfig(t, more)
			free := startDaemon(t, newTree(t), "--backend", backend, "--config", config)
			free.push(unitRules(free.tree))
			free.stop()

			d := startConfined(t, "--backend", backend, "--config", config)
			d.push(unitRules(d.tree))
			d.soon(unix.EPERM, "bad")
			d.soon(unix.EPERM, "good", d.tree+"/secret")
			d.until("who is to be killed, of another user", func() bool {
				killed := exec.Command(d.tree+"/good", d.tree+"/watched")
				killed.Env = append(os.Environ(), roleEnv+"=subject")
				killed.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
				err := killed.Run()
				var ended *exec.ExitError
				if !errors.As(err, &ended) {
					t.Fatalf("who is to be killed: %v; %s", err, d.log)
				}
				// The signal comes behind the refusal, before which the process may have ended by itself.
				return ended.Sys().(syscall.WaitStatus).Signal() == unix.SIGKILL
			})
			d.stop()
			if got, want := notesOf(d), notesOf(free); !slices.Equal(got, want) {
				t.Errorf("confined as by the unit the daemon says\n%s\nelse\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
	f(kernelbridge.BackendFanotify, "")
	f(kernelbridge.BackendLSM, "self_protection: true\nsurvive: closed\nsurvive_pins: /sys/fs/bpf/arbiter-test\nbreak_glass: "+t.TempDir()+"/break-glass\n")
}

// Where the kernel hides its addresses everything else works, and rules that would need them are refused.
func TestWithoutAddresses(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: it drops capabilities")
	}
	t.Setenv(dropEnv, "CAP_SYSLOG")
	d := startConfined(t, "--backend", kernelbridge.BackendLSM)
	d.push(ruleText(d.dir, "EACCES"))
	d.soon(unix.EPERM, "bad")
	d.soon(unix.EACCES, "good", d.tree+"/secret")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := pb.NewRulesServiceClient(d.conn).Push(ctx, &pb.PushRequest{Source: []byte(unitRules(d.tree)), Name: "owners.yaml"})
	if err == nil || !strings.Contains(err.Error(), "CAP_SYSLOG") {
		t.Errorf("rules about owners: %v, want that they are refused and what would help", err)
	}
	d.stop()
}

func unitRules(tree string) string {
	return fmt.Sprintf(`version: 1
default: allow
scope: {paths: [%[1]q]}
rules:
- {id: no-bad, events: [exec], object: {path: %[2]q, owner: 0}, verdict: deny}
- {id: no-secrets, events: [open], object: {path: %[3]q}, verdict: deny}
- {id: killed, events: [open], object: {path: %[4]q}, subject: {uid: 4711}, verdict: kill}
`, tree, tree+"/bad", tree+"/secret", tree+"/watched")
}

var varies = regexp.MustCompile(`time=\S+|(fingerprint|pid|cpu|took|address|socket|path|dir|state_dir)=\S+|/tmp/\S+`)

// notesOf returns what the log of a daemon that has ended says, without what differs from one to another.
func notesOf(d *runs) (notes []string) {
	for line := range strings.Lines(d.log.String()) {
		notes = append(notes, strings.TrimSpace(varies.ReplaceAllString(line, "")))
	}
	slices.Sort(notes)
	return notes
}

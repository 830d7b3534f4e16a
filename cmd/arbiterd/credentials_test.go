// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// credentialRules has a rule for each kind of namespace, which allows who is in another one of that
// kind, and of no other, and before them more.
func credentialRules(tree, more string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndefault: allow\non_fail: deny\nscope: {paths: [%q]}\nrules:\n%s", tree, more)
	b.WriteString("- {id: nobody-has-it, events: [exec], subject: {capabilities: {all: 0x8000000000000000}}, verdict: deny}\n")
	for kind, name := range abi.NamespaceNames {
		others := append(append([]string{}, abi.NamespaceNames[:kind]...), abi.NamespaceNames[kind+1:]...)
		fmt.Fprintf(&b, "- {id: in-%s, events: [exec], subject: {host_namespaces: {all: [%s]}}, not: {subject: {host_namespaces: {any: %s}}}, verdict: audit}\n", name, strings.Join(others, ", "), name)
	}
	b.WriteString(`- {id: elsewhere, events: [exec], not: {subject: {host_namespaces: {all: [cgroup, ipc, mnt, net, pid, user, uts]}}}, verdict: deny}
- {id: logged-in, events: [exec], subject: {loginuid: 4711}, verdict: audit}
- {id: mighty, events: [exec], subject: {capabilities: {all: [CAP_SYS_ADMIN, CAP_BPF]}, loginuid: unset, session: unset}, verdict: deny}
`)
	return b.String()
}

// Who is in which namespaces, may do what and has logged in is known on each backend.
func TestCredentialsOfExecs(t *testing.T) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			d := startDaemon(t, newTree(t), "--backend", backend)
			d.push(credentialRules(d.tree, ""))
			events := d.watch()
			good := d.tree + "/good"
			// expect executes the program as that says, and wants the verdict, and the rule in its record.
			expect := func(want error, record string, as syscall.SysProcAttr) {
				t.Helper()
				record = "exec " + record + " " + good
				for range 5 { // as soon: a wait can reach its bound, and on_fail refuses as well
					cmd := exec.Command(good)
					cmd.Env, cmd.SysProcAttr = append(os.Environ(), roleEnv+"=subject"), &as
					err, e := cmd.Run(), d.awaitExec(events, good)
					if errors.Is(err, want) && describe(e) == record {
						return
					}
					t.Logf("want %q: %v, %q %s", record, err, describe(e), e.GetReason())
				}
				t.Errorf("want %v and %q; %s", want, record, d.log)
			}
			if _, err := os.Readlink("/proc/1/ns/mnt"); errors.Is(err, fs.ErrPermission) {
				// Nobody knows the host's namespaces: on_fail.
				expect(unix.EPERM, "deny ", syscall.SysProcAttr{})
				d.stop()
				return
			}
			expect(unix.EPERM, "deny mighty", syscall.SysProcAttr{})
			// So many groups that a status file has what comes behind them beyond its first pages.
			groups := make([]uint32, 2000)
			for i := range groups {
				groups[i] = 4_000_000_000 + uint32(i)
			}
			expect(unix.EPERM, "deny mighty", syscall.SysProcAttr{Credential: &syscall.Credential{Groups: groups}})
			for kind, flag := range [abi.NamespaceCount]uintptr{abi.NamespaceCgroup: unix.CLONE_NEWCGROUP, abi.NamespaceIPC: unix.CLONE_NEWIPC, abi.NamespaceMnt: unix.CLONE_NEWNS,
				abi.NamespaceNet: unix.CLONE_NEWNET, abi.NamespaceUTS: unix.CLONE_NEWUTS, abi.NamespacePID: unix.CLONE_NEWPID, abi.NamespaceUser: unix.CLONE_NEWUSER} {
				expect(nil, "audit in-"+abi.NamespaceNames[kind], syscall.SysProcAttr{Cloneflags: flag})
			}
			expect(unix.EPERM, "deny elsewhere", syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWIPC})
			loggedIn(t, 4711, func(session string) {
				expect(nil, "audit logged-in", syscall.SysProcAttr{})
				d.push(credentialRules(d.tree, "- {id: in-session, events: [exec], subject: {session: "+session+", loginuid: 4711}, verdict: audit}\n"))
				expect(nil, "audit in-session", syscall.SysProcAttr{})
			})
			loggedIn(t, 4711, func(string) { expect(nil, "audit logged-in", syscall.SysProcAttr{}) }) // another session
			d.stop()
		})
	}
}

// loggedIn calls f on a thread with that login uid, and in a session of its own, from which what it
// starts has both.
func loggedIn(t *testing.T, uid int, f func(session string)) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends
		err := os.WriteFile("/proc/thread-self/loginuid", fmt.Append(nil, uid), 0)
		session, err2 := os.ReadFile("/proc/thread-self/sessionid")
		if err = errors.Join(err, err2); err == nil {
			f(strings.TrimSpace(string(session)))
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Errorf("setting the login uid of a thread: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

const attributeRules = `version: 1
default: allow
scope: {paths: [%[1]q]}
rules:
  - id: setuid
    events: [exec]
    object: {mode: {any: [setuid, setgid]}}
    verdict: {deny: EPERM}
  - id: anybody-writes
    events: [exec]
    object: {mode: {any: [group_write, other_write]}}
    verdict: {deny: EPERM}
  - id: not-of-root
    events: [exec]
    not: {object: {owner: 0, group: 0}}
    verdict: {deny: EPERM}
`

// Who owns a program, and who may write to it, decides on each backend, and at once when that changes.
func TestAttributesOfExecs(t *testing.T) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			d := startDaemon(t, newTree(t), "--backend", backend)
			d.push(fmt.Sprintf(attributeRules, d.tree))
			events := d.watch()
			good := d.tree + "/good"
			for _, tc := range []struct {
				uid, gid int
				mode     os.FileMode
				want     unix.Errno
				rule     string // that refuses
			}{
				{0, 0, 0o755, 0, ""},
				{0, 0, 0o755 | os.ModeSetuid, unix.EPERM, "setuid 0:0:0o4755"},
				{0, 0, 0o755 | os.ModeSetgid, unix.EPERM, "setuid 0:0:0o2755"},
				{0, 0, 0o757, unix.EPERM, "anybody-writes 0:0:0o757"},
				{1, 0, 0o755, unix.EPERM, "not-of-root 1:0:0o755"},
				{0, 2, 0o755, unix.EPERM, "not-of-root 0:2:0o755"},
				{0, 0, 0o755, 0, ""},
			} {
				if err := os.Chown(good, tc.uid, tc.gid); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(good, tc.mode); err != nil {
					t.Fatal(err)
				}
				if d.soon(tc.want, "good"); tc.rule == "" {
					continue
				}
				var rule string
				_, _ = fmt.Sscan(tc.rule, &rule)
				if e := d.await(events, "exec deny "+rule+" "+good); rule+" "+e.Object.Attributes != tc.rule {
					t.Errorf("the record has %s, want %s", rule+" "+e.Object.Attributes, tc.rule)
				}
			}
			d.stop()
		})
	}
}

const sizeRules = `version: 1
default: allow
scope: {paths: [%[1]q]}
rules:
  - {id: as-it-was, events: [exec], object: {path: %[2]q, size: %[3]d}, verdict: audit}
  - {id: longer, events: [exec], object: {path: %[2]q, size: %[4]d-}, verdict: {deny: EPERM}}
  - {id: sized, events: [exec], object: {size: 0-}, verdict: allow}
  - {id: directory, events: [open], object: {path: %[1]q}, not: {object: {size: 0-}}, verdict: {deny: ENOTDIR}}
`

// How long a program is decides on each backend, and at once when that changes. A directory has no size.
func TestSizeOfExecs(t *testing.T) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			d := startDaemon(t, newTree(t), "--backend", backend)
			good := d.tree + "/good"
			info, err := os.Stat(good)
			if err != nil {
				t.Fatal(err)
			}
			size := info.Size()
			d.push(fmt.Sprintf(sizeRules, d.tree, good, size, size+1))
			events := d.watch()
			for _, tc := range []struct {
				more   int64
				want   unix.Errno
				record string
			}{
				{0, 0, "audit as-it-was"},
				{1, unix.EPERM, "deny longer"},
				{1 << 33, unix.EPERM, "deny longer"}, // with a hole
				{0, 0, "audit as-it-was"},
			} {
				if err := os.Truncate(good, size+tc.more); err != nil {
					t.Fatal(err)
				}
				d.soon(tc.want, "good")
				if e, want := d.await(events, "exec "+tc.record+" "+good), fmt.Sprint(size+tc.more); e.Object.Size != want {
					t.Errorf("the record of %s has size %q, want %s", tc.record, e.Object.Size, want)
				}
			}
			if backend == kernelbridge.BackendLSM { // fanotify is not asked about directories
				_, err := os.ReadDir(d.tree)
				if !errors.Is(err, unix.ENOTDIR) {
					t.Errorf("opening a directory: %v, want ENOTDIR", err)
				}
			}
			d.stop()
		})
	}
}

// An overlay takes the owners of its layers over, and what a user has mounted, in a user namespace,
// can lie on a FUSE server of his own: owners there are not known.
func TestOwnerOnOverlayOfUser(t *testing.T) {
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: another mount namespace is nothing that fanotify has marked")
	}
	d := startDaemon(t, newTree(t), "--backend", kernelbridge.BackendLSM)
	d.push(fmt.Sprintf(attributeRules, d.tree) + fmt.Sprintf("  - {id: not-known, events: [open], object: {path: %q}, not: {object: {owner: 0-4294967294}}, verdict: {deny: ENODEV}}\n", d.tree+"/over/watched"))
	for _, name := range []string{"/low", "/empty", "/over"} {
		if err := os.Mkdir(d.tree+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.tree+"/low/watched", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f := func(name string, flags uintptr, want unix.Errno) {
		t.Helper()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		ids := []syscall.SysProcIDMap{{Size: 1}}
		as := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | flags}
		if flags&unix.CLONE_NEWUSER != 0 {
			as.UidMappings, as.GidMappings = ids, ids
		}
		var got error
		var out []byte
		for range 5 { // as soon
			cmd := exec.Command(self, d.tree)
			cmd.Env, cmd.SysProcAttr = append(os.Environ(), roleEnv+"=overlayer"), as
			if out, got = cmd.CombinedOutput(); cmd.ProcessState.ExitCode() == int(want) {
				return
			}
		}
		t.Errorf("%s: %v, want %v; %s%s", name, got, want, out, d.log)
	}
	f("mounted by root", 0, 0)
	f("mounted in a user namespace", unix.CLONE_NEWUSER, unix.ENODEV)
	d.stop()
}

// openInOverlay mounts tree/low at tree/over, in a mount namespace of its own, and opens a file there.
// It returns the errno, 255 if it cannot mount.
func openInOverlay(tree string) int {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("overlay", tree+"/over", "overlay", 0, "lowerdir="+tree+"/low:"+tree+"/empty")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 255
	}
	fd, err := unix.Open(tree+"/over/watched", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return int(err.(unix.Errno))
	}
	unix.Close(fd)
	return 0
}

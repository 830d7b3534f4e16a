// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// ofRoot refuses what is not root's, or is set-id.
func ofRoot(q *abi.Request) unix.Errno {
	if a := q.Attributes(); a.Known() && (a.Mode&0o4000 != 0 || a.UID != 0) {
		return unix.EROFS
	}
	return 0
}

// An allow that hangs on the owner and the mode of a file is given again by the kernel, until they change.
func TestLSMCacheOfAttributes(t *testing.T) {
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if missing := capabilities(spec).sleep; missing != "" {
		t.Skipf("verdicts cannot be kept here: %s", missing)
	}
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	path := tree + "/file"
	mustWrite(t, path, []byte("x"), 0o644)
	p := policyAll([abi.EventCount]abi.Verdict{})
	for e := range p.Keep {
		p.Keep[e] = abi.FieldKeep | abi.FieldPath | abi.FieldAttributes
	}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	w := startWorker(t, b, nil)
	w.keep, w.judge = true, ofRoot
	c := startChild(t)
	open := func(name, want string, asked int) {
		t.Helper()
		w.take()
		for range 2 {
			if got := c.do("read", path); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if got := w.take(); len(got) != asked {
			t.Errorf("%s: asked %q, want %d questions of 2 opens", name, got, asked)
		}
	}
	change := func(uid int, mode os.FileMode) {
		t.Helper()
		if err := errors.Join(os.Chown(path, uid, 0), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	settle := func() {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		await(t, "settled file", func() bool { return time.Now().Unix() > st.Ctim.Sec+3 })
	}
	settle()
	open("settled", "ok", 1)
	change(0, 0o644|os.ModeSetuid)
	open("set-id", "EROFS", 2)
	settle()
	open("set-id, settled", "EROFS", 2)
	change(0, 0o644)
	settle()
	open("as it was", "ok", 1)
	change(5, 0o644)
	open("another's", "EROFS", 2)
}

// A verdict that waits for its system call to run again is not one for a file that has changed.
func TestLSMUnwindsOfAttributes(t *testing.T) {
	needUnwind(t)
	b, tree := openSleeper(t, asking(abi.EventUnlink))
	path := tree + "/set-id"
	mustWrite(t, path, []byte("x"), 0o644)
	w := startWorker(t, b, nil)
	w.judge = ofRoot
	w.slow = map[string]time.Duration{"unlink " + path: 2 * time.Second}
	held := startChild(t)
	result := make(chan string, 1)
	go func() { result <- held.do("unlink", path) }()
	await(t, "question", func() bool { return len(w.take()) > 0 })
	if err := os.Chmod(path, 0o644|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if got := <-result; got != "EROFS" {
		t.Errorf("unlink of a file that became set-id meanwhile: %s, want EROFS", got)
	}
}

// Such a verdict is one for a file of that size if rules look at sizes, and for any other file otherwise.
func TestLSMUnwindsOfSizes(t *testing.T) {
	needUnwind(t)
	for name, looked := range map[string]bool{"looked at": true, "not looked at": false} {
		t.Run(name, func(t *testing.T) {
			p := asking(abi.EventUnlink)
			if !looked {
				p.Want[abi.EventUnlink] &^= abi.FieldSize
			}
			b, tree := openSleeper(t, p)
			path := tree + "/grown"
			mustWrite(t, path, []byte("x"), 0o644)
			w := startWorker(t, b, nil)
			w.judge = func(q *abi.Request) unix.Errno {
				if q.Size != (abi.Size{Known: true, Bytes: 1}) {
					return unix.EFBIG
				}
				return 0
			}
			w.slow = map[string]time.Duration{"unlink " + path: 2 * time.Second}
			held := startChild(t)
			result := make(chan string, 1)
			go func() { result <- held.do("unlink", path) }()
			await(t, "question", func() bool { return len(w.take()) > 0 })
			if err := os.Truncate(path, 5); err != nil {
				t.Fatal(err)
			}
			want := "ok"
			if looked {
				want = "EFBIG"
			}
			if got := <-result; got != want {
				t.Errorf("unlink of a file that became longer meanwhile: %s, want %s", got, want)
			}
		})
	}
}

// What root of a user namespace owns on a mount that maps its ids is not the host's root's.
func TestLSMOwnerOnMappedMount(t *testing.T) {
	const inside = 100000
	tree := t.TempDir()
	mustMkdir(t, tree+"/plain", tree+"/mapped")
	if err := unix.Mount("none", tree+"/plain", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(tree+"/plain", unix.MNT_DETACH) })
	if err := os.Chmod(tree+"/plain", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := mountMapped(t, tree+"/plain", tree+"/mapped", inside); err != nil {
		t.Skipf("tmpfs cannot be mounted with mapped ids here: %v", err)
	}
	mustWrite(t, tree+"/plain/file", []byte("x"), 0o644) // root's, and inside's through the other mount
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	if err := b.Configure(Scope{Trees: []string{tree + "/plain"}}, asking(abi.EventOpen)); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	w := startWorker(t, b, nil)
	w.judge = ofRoot
	c := startChild(t)
	if got := c.do("read", tree+"/plain/file"); got != "ok" {
		t.Errorf("a file of root's: %s, want ok", got)
	}
	if got := c.do("read", tree+"/mapped/file"); got != "EROFS" {
		t.Errorf("the same through a mount that maps its owner to %d: %s, want EROFS", inside, got)
	}
}

// mountMapped mounts from once more at to, with ids from 0 on as those from first on.
func mountMapped(t *testing.T, from, to string, first int) error {
	t.Helper()
	holder := exec.Command("/proc/self/exe", "serve") // its user namespace has the mapping
	holder.Env = append(os.Environ(), subjectEnv+"=1")
	maps := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: 1000}}
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER, UidMappings: maps, GidMappings: maps}
	in, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer holder.Wait()
	defer in.Close()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", holder.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	tree, err := unix.OpenTree(unix.AT_FDCWD, from, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, to, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	t.Cleanup(func() { _ = unix.Unmount(to, unix.MNT_DETACH) })
	return nil
}

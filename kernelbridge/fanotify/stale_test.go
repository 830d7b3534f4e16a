// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMarkByAStaleTable: whoever mounts in a tree between the look at the mount table and
// the marks gets no mark on what he has mounted, and is asked nothing.
func TestMarkByAStaleTable(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name string
		over string // what the file system is mounted on, below the directory
		tree string
		ask  bool
		want bool // that it is marked
	}{
		{"over a mount", "/a/m", "", false, false},
		{"above a mount", "/a", "", false, false},
		{"over a tree", "/plain", "/plain", false, false},
		{"above a tree", "/plain", "/plain/tree", false, false},
		{"over a mount, asked", "/a/m", "", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := tree(t)
			if c.tree == "" {
				dir = mounted(t)
			}
			mkdir(t, dir+"/a/m")
			mkdir(t, dir+"/plain/tree")
			mountAt(t, dir+"/a/m")
			group, _, err := newGroup()
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(group)
			inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(inotify)
			table, err := os.Open("/proc/self/mountinfo")
			if err != nil {
				t.Fatal(err)
			}
			defer table.Close()
			mounts, err := readMounts(table)
			if err != nil {
				t.Fatal(err)
			}
			hangs := []uint32{fuseLookup, fuseGetattr, fuseOpendir}
			if c.ask {
				hangs = nil
			}
			f := fuseAt(t, dir+c.over, ",allow_other", hangs...)
			id := mountOf(t, table, dir+c.over)
			done := make(chan error, 1)
			go func() {
				_, err := newMarks(group, inotify, c.ask, new(atomic.Bool)).mark([]string{dir + c.tree}, mounts, nil)
				done <- err
			}()
			select {
			case err = <-done:
			case <-time.After(patience / 4):
				t.Error("marking waits for the server")
				f.abort()
				err = <-done
			}
			if err != nil {
				t.Error(err)
			}
			info, err := os.ReadFile("/proc/self/fdinfo/" + itoa(group))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(string(info), fmt.Sprintf("fanotify mnt_id:%x ", id)); got != c.want {
				t.Errorf("the mount that came since is marked: got %v, want %v:\n%s", got, c.want, info)
			}
		})
	}
}

// A directory that does not tell the kinds of its names is no reason to ask a server.
func TestKindOfAMountPoint(t *testing.T) {
	needRoot(t)
	dir := tree(t)
	mkdir(t, dir+"/m")
	mkdir(t, dir+"/sub")
	f := fuseAt(t, dir+"/m", ",allow_other", fuseGetattr)
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	server := f.cmd.Process
	timer := time.AfterFunc(patience/4, func() { server.Kill() })
	defer timer.Stop()
	for name, want := range map[string]byte{"m": unix.DT_DIR, "sub": unix.DT_DIR, "file": unix.DT_UNKNOWN, "none": unix.DT_UNKNOWN} {
		if got := kindOf(fd, name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	if n := f.count(fuseGetattr); n != 0 {
		t.Errorf("the server was asked %d times, want 0", n)
	}
}

// mountOf returns the id of the FUSE mount at a point.
func mountOf(t *testing.T, table *os.File, point string) int {
	t.Helper()
	mounts, err := readMounts(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mounts {
		if m.point == point && m.fstype == "fuse.test" {
			return m.id
		}
	}
	t.Fatalf("no FUSE mount at %s", point)
	return 0
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var mountVerbs = map[string]verb{
	"mount":      func(a []string) error { return unix.Mount("none", a[0], "tmpfs", unix.MS_NOSUID, "") },
	"bind-mount": func(a []string) error { return unix.Mount(a[0], a[1], "", unix.MS_BIND, "") },
	"move":       func(a []string) error { return unix.Mount(a[0], a[1], "", unix.MS_MOVE, "") },
	"umount":     func(a []string) error { return unix.Unmount(a[0], atoi(a[1])) },
	"remount":    func(a []string) error { return unix.Mount("none", a[0], "", unix.MS_REMOUNT|unix.MS_RDONLY, "") },
	"reconfigure": func(a []string) error {
		fd, err := unix.Fspick(unix.AT_FDCWD, a[0], unix.FSPICK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("before: %v", err)
		}
		defer unix.Close(fd)
		return unix.FsconfigReconfigure(fd)
	},
	"attach": func(a []string) error {
		fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
		if err != nil {
			return fmt.Errorf("before: %v", err)
		}
		defer unix.Close(fs)
		if err := unix.FsconfigCreate(fs); err != nil {
			return fmt.Errorf("before: %v", err)
		}
		fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("before: %v", err)
		}
		defer unix.Close(fd)
		return unix.MoveMount(fd, "", unix.AT_FDCWD, a[0], unix.MOVE_MOUNT_F_EMPTY_PATH)
	},
	"move-mount": func(a []string) error { return unix.MoveMount(unix.AT_FDCWD, a[0], unix.AT_FDCWD, a[1], 0) },
	"pivot": func(a []string) error {
		return onThread(func() error { // in a mount namespace of its own
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return unix.PivotRoot(a[0], a[1])
		})
	},
	"chroot": func(a []string) error {
		return onThread(func() error {
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return unix.Chroot(a[0])
		})
	},
}

// onThread calls f on a thread that ends with it, pinned like the subject.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked
		var set unix.CPUSet
		set.Set(0)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			done <- fmt.Errorf("before: pinning: %v", err)
			return
		}
		done <- f()
	}()
	return <-done
}

func TestLSMEventsMounts(t *testing.T) {
	s := newStage(t)
	for _, dir := range []string{s.tree, s.away} {
		mustMkdir(t, dir+"/mnt", dir+"/to", dir+"/from")
	}
	clear := func(t *testing.T, dir string) {
		for _, at := range []string{"/mnt/in/mnt", "/mnt", "/to"} {
			for unix.Unmount(dir+at, unix.MNT_DETACH) == nil {
			}
		}
	}
	mounted := func(t *testing.T, dir string) {
		if err := unix.Mount("none", dir+"/mnt", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		mustMkdir(t, dir+"/mnt/old")
	}
	// The mount that is seen is not the one that a part of the file system has elsewhere.
	partElsewhere := func(t *testing.T, dir string) {
		mounted(t, dir)
		if err := unix.Mount(dir+"/mnt/old", s.away+"/to", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
	}
	clearPart := func(t *testing.T, dir string) {
		clear(t, dir)
		clear(t, s.away)
	}
	isMount := func(name string, want bool) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			var on, parent unix.Stat_t
			if err := unix.Stat(dir+name, &on); err != nil {
				t.Fatal(err)
			}
			if err := unix.Stat(dir, &parent); err != nil {
				t.Fatal(err)
			}
			if (on.Dev != parent.Dev) != want {
				t.Errorf("%s is a mount: %t, want %t", name, !want, want)
			}
		}
	}
	s.run(t, []eventCase{
		{event: abi.EventMount, do: "mount $D/mnt", after: clear, path: "$D/mnt", detail: "tmpfs", args: map[string]uint64{"flags": unix.MS_NOSUID}, check: isMount("/mnt", true)},
		{name: "bind", event: abi.EventMount, do: "bind-mount $D/from $D/mnt", after: clear, path: "$D/mnt", args: map[string]uint64{"flags": unix.MS_BIND}},
		{name: "move", event: abi.EventMount, do: "move $D/mnt $D/to", before: mounted, after: clear, path: "$D/to", args: map[string]uint64{"flags": unix.MS_MOVE}},
		{name: "remount", event: abi.EventMount, do: "remount $D/mnt", before: mounted, after: clear, path: "$D/mnt", args: map[string]uint64{"flags": unix.MS_REMOUNT | unix.MS_RDONLY}},
		{event: abi.EventUmount, do: "umount $D/mnt 2", before: mounted, after: clear, path: "$D/mnt", args: map[string]uint64{"flags": unix.MNT_DETACH}, check: isMount("/mnt", false)},
		{event: abi.EventRemount, do: "remount $D/mnt", before: mounted, after: clear, path: "$D/mnt", detail: "tmpfs", restarts: true},
		{name: "a part is elsewhere", event: abi.EventRemount, do: "remount $D/mnt", before: partElsewhere, after: clearPart, path: "$D/mnt", detail: "tmpfs", restarts: true},
		{name: "by fsconfig", event: abi.EventRemount, do: "reconfigure $D/mnt", before: mounted, after: clear, path: "$D/mnt", detail: "tmpfs"},
		{event: abi.EventMoveMount, do: "move-mount $D/mnt $D/to", before: mounted, after: clear, path: "$D/to", detail: "$D/mnt", restarts: true, check: isMount("/to", true)},
		{name: "attach", event: abi.EventMoveMount, do: "attach $D/mnt", after: clear, path: "$D/mnt", detail: "/", restarts: true, check: isMount("/mnt", true)},
		// Some kernels refuse to exchange the root of an initial ramdisk, behind the hook.
		{event: abi.EventPivotRoot, do: "pivot $D/mnt $D/mnt/old", before: mounted, after: clear, path: "$D/mnt", detail: "$D/mnt/old", allowed: "ok|EINVAL", restarts: true},
		{event: abi.EventChroot, do: "chroot $D/mnt", path: "$D/mnt", restarts: true},
	})
}

// The path of a file that is known by its inode alone is one under which the task can
// see it, also when only a part of its file system is mounted.
func TestLSMEventsPartMounted(t *testing.T) {
	s := newStage(t)
	part, other := s.tree+"/part", s.away+"/other"
	mustMkdir(t, part, other)
	if err := unix.Mount("none", part, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	mustMkdir(t, part+"/a", part+"/b")
	mustWrite(t, part+"/a/file", nil, 0o644)
	for _, m := range [][2]string{{part + "/b", other}, {part + "/a", part}} {
		if err := unix.Mount(m[0], m[1], "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(m[1], unix.MNT_DETACH) })
	}
	// Now the whole file system is covered by its part a; take it away altogether.
	t.Cleanup(func() { unix.Unmount(part, unix.MNT_DETACH) })
	moved := s.tree + "/moved"
	mustMkdir(t, moved)
	if err := unix.Mount(part, moved, "", unix.MS_MOVE, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(moved, unix.MNT_DETACH) })
	if err := unix.Unmount(part, unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	s.about(t, abi.EventSetXattr)
	s.w.errno.Store(uint32(answer))
	tc := eventCase{event: abi.EventSetXattr, do: "setxattr $D/file"}
	got, asked := s.prompt(t, &tc, s.inside, moved)
	if got != unix.ErrnoName(answer) || len(asked) != 1 || asked[0].path != moved+"/file" {
		t.Errorf("%s, asked %s; want %s and once about %s", got, describe(asked), unix.ErrnoName(answer), moved+"/file")
	}
}

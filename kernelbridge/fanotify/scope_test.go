// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// until waits for a condition that the watcher brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); unix.Poll(nil, 1) {
		if time.Now().After(end) {
			t.Fatalf("%s: not in %v", what, patience)
		}
	}
}

// marked reports whether a directory is marked under that path.
func (b *Backend) marked(path string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.marks.dirs {
		if d.path == path {
			return true
		}
	}
	return false
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
}

func touch(t *testing.T, path string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoriesAreFollowed(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	dir, outside := base+"/tree", base+"/outside"
	mkdir(t, dir+"/a/b/c")
	mkdir(t, outside+"/in/deep")
	touch(t, dir+"/a/b/c/file")
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Want: abi.FieldPath})
	serve(t, b.Sources()[0], deny)
	refused := func(path string) {
		t.Helper()
		if e := sub.open(path); e != unix.EPERM {
			t.Errorf("open %q: got %v, want %v", path, e, unix.EPERM)
		}
	}
	refused(dir)
	refused(dir + "/a/b/c/file")
	if s := b.Stats(); s.Directories != 4 || s.Mounts != 0 {
		t.Errorf("marks: got %d directories, %d mounts, want 4, 0", s.Directories, s.Mounts)
	}

	mkdir(t, dir+"/new/er/est")
	until(t, "new directories are marked", func() bool { return b.marked(dir + "/new/er/est") })
	refused(touch(t, dir+"/new/er/est/file"))

	rename(t, outside+"/in", dir+"/in")
	until(t, "a directory from outside is marked", func() bool { return b.marked(dir + "/in/deep") })
	refused(touch(t, dir+"/in/deep/file"))

	// A directory that was renamed with its children is still followed.
	rename(t, dir+"/a", dir+"/z")
	until(t, "renamed directories are known", func() bool { return b.marked(dir + "/z/b/c") })
	mkdir(t, dir+"/z/b/c/d")
	until(t, "a directory in a renamed one is marked", func() bool { return b.marked(dir + "/z/b/c/d") })
	refused(touch(t, dir+"/z/b/c/d/file"))

	// What leaves the tree is not asked any more.
	rename(t, dir+"/z", outside+"/z")
	before := b.Stats().OutOfScope
	if e := sub.open(outside + "/z/b/c/file"); e != 0 {
		t.Errorf("open outside: got %v, want success", e)
	}
	until(t, "one more is out of scope", func() bool { return b.Stats().OutOfScope == before+1 })
	mkdir(t, outside+"/z/b/c/later")
	mkdir(t, dir+"/last") // comes after it in the watcher's queue
	until(t, "the last directory is marked", func() bool { return b.marked(dir + "/last") })
	if b.marked(outside+"/z/b/c/later") || b.marked(dir+"/z/b/c/later") {
		t.Error("a directory outside of the tree was marked")
	}

	// A removed directory's inode may come again.
	for range 50 {
		if err := os.Remove(dir + "/last"); err != nil {
			t.Fatal(err)
		}
		mkdir(t, dir+"/last")
	}
	touch(t, dir+"/last/file")
	until(t, "the recreated directory is marked", func() bool { return sub.open(dir+"/last/file") == unix.EPERM })
}

func TestRemovedDirectoriesAreForgotten(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mkdir(t, dir+"/a/b")
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], allow)
	if err := os.RemoveAll(dir + "/a"); err != nil {
		t.Fatal(err)
	}
	until(t, "one mark is left", func() bool { return b.Stats().Directories == 1 })
	if n := len(b.marks.watches); n != 1 {
		t.Errorf("watches: got %d, want 1", n)
	}
}

func TestOverflowRescans(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mkdir(t, dir+"/a/b")
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], allow)
	b.mu.Lock()
	for _, d := range b.marks.dirs { // as if nothing below the root had been seen
		if d.path != dir {
			b.marks.dropDir(fileIDOf(t, d.path))
		}
	}
	b.mu.Unlock()
	if b.marked(dir + "/a/b") {
		t.Fatal("still marked")
	}
	b.rescan()
	if !b.marked(dir + "/a/b") {
		t.Error("not marked after a rescan")
	}
}

func fileIDOf(t *testing.T, path string) fileID {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return fileID{st.Dev, st.Ino}
}

func TestMountsAreFollowed(t *testing.T) {
	needRoot(t)
	for _, kind := range []struct {
		name string
		make func(testing.TB) string
	}{{"below a directory", tree}, {"below a mount", mounted}} {
		t.Run(kind.name, func(t *testing.T) {
			dir := kind.make(t)
			mkdir(t, dir+"/early")
			mkdir(t, dir+"/late")
			mountAt(t, dir+"/early")
			touch(t, dir+"/early/file")
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}})
			serve(t, b.Sources()[0], deny)
			if e := sub.open(dir + "/early/file"); e != unix.EPERM {
				t.Errorf("mount from before: got %v, want %v", e, unix.EPERM)
			}
			want := b.Stats().Mounts + 1
			mountAt(t, dir+"/late")
			until(t, "the new mount is marked", func() bool { return b.Stats().Mounts == want })
			if e := sub.open(touch(t, dir+"/late/file")); e != unix.EPERM {
				t.Errorf("new mount: got %v, want %v", e, unix.EPERM)
			}
			if err := unix.Unmount(dir+"/late", unix.MNT_DETACH); err != nil {
				t.Fatal(err)
			}
			until(t, "the old mount is forgotten", func() bool { return b.Stats().Mounts == want-1 })
			for _, path := range []string{dir + "/file", dir + "/early/file"} { // still asked
				if e := sub.open(touch(t, path)); e != unix.EPERM {
					t.Errorf("%s, after the unmount: got %v, want %v", path, e, unix.EPERM)
				}
			}
		})
	}
}

func TestBindMountedViewIsOutOfScope(t *testing.T) {
	needRoot(t)
	dir, view := tree(t), t.TempDir()
	if err := unix.Mount(dir, view, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(view, unix.MNT_DETACH) })
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], deny)
	if e := sub.open(view + "/file"); e != 0 {
		t.Errorf("open by another name: got %v, want success", e)
	}
	until(t, "one is out of scope", func() bool { return b.Stats().OutOfScope == 1 })
	if s := b.Stats(); s.Answered != 0 {
		t.Errorf("asked %d times, want 0", s.Answered)
	}
}

func TestConfigure(t *testing.T) {
	needRoot(t)
	one, two, three := tree(t), mounted(t), tree(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{one}})
	serve(t, b.Sources()[0], deny)
	expect := func(asked ...string) {
		t.Helper()
		for _, dir := range []string{one, two, three} {
			var want unix.Errno
			if slices.Contains(asked, dir) {
				want = unix.EPERM
			}
			if e := sub.open(dir + "/file"); e != want {
				t.Errorf("open in %s: got %v, want %v", dir, e, want)
			}
		}
	}
	expect(one)
	for _, c := range []struct {
		name  string
		trees []string
		want  string
	}{
		{"missing", []string{two, three + "/missing"}, "create the directory first"},
		{"file", []string{two, three + "/file"}, "not a directory"},
		{"relative", []string{"x"}, "absolute"},
		{"unclean", []string{two + "/"}, "absolute"},
		{"link", []string{link(t, two)}, two},
		{"proc", []string{"/proc/self"}, "facts"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := b.Configure(c.trees, 0, nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			expect(one)
		})
	}
	if err := b.Configure([]string{two}, 0, map[abi.Event]abi.Verdict{abi.EventCount: {}}); err == nil {
		t.Error("failure verdict for an unknown event: got no error")
	}

	t.Run("error in the middle", func(t *testing.T) {
		before := b.Stats()
		// Marking fails after the first tree: the group's inotify is not one.
		b.mu.Lock()
		real := b.marks.inotify
		b.marks.inotify = b.stop
		b.mu.Unlock()
		err := b.Configure([]string{two, three}, 0, nil)
		b.mu.Lock()
		b.marks.inotify = real
		b.mu.Unlock()
		if !errors.Is(err, unix.EINVAL) {
			t.Fatalf("got %v, want %v", err, unix.EINVAL)
		}
		if s := b.Stats(); s.Mounts != before.Mounts || s.Directories != before.Directories {
			t.Errorf("marks: got %d, %d, want those from before: %d, %d", s.Mounts, s.Directories, before.Mounts, before.Directories)
		}
		expect(one)
	})

	for _, trees := range [][]string{{two, three}, nil, {one, two}, {one}} {
		if err := b.Configure(trees, allFields, nil); err != nil {
			t.Fatal(err)
		}
		expect(trees...)
	}
	if s := b.Stats(); s.Mounts != 0 || s.Directories != 1 {
		t.Errorf("marks: got %d mounts, %d directories, want 0, 1", s.Mounts, s.Directories)
	}
	ws := strings.Join(b.Warnings(), "\n")
	for _, want := range []string{"EPERM", "openat2", one} {
		if !strings.Contains(ws, want) {
			t.Errorf("warnings: got %s, want something about %s", ws, want)
		}
	}
}

// A daemon without rules has nothing to ask about, and asks about nothing.
func TestNoTrees(t *testing.T) {
	needRoot(t)
	dir := tree(t)
	sub := newSubject(t)
	b := open(t, Options{})
	serve(t, b.Sources()[0], deny)
	if e := sub.open(dir + "/file"); e != 0 {
		t.Errorf("open: got %v, want success", e)
	}
	if s := b.Stats(); s.Mounts != 0 || s.Directories != 0 || s.Events != 0 {
		t.Errorf("got %d mounts, %d directories marked, %d events, want none", s.Mounts, s.Directories, s.Events)
	}
	if err := b.Configure([]string{dir}, 0, nil); err != nil {
		t.Fatal(err)
	}
	if e := sub.open(dir + "/file"); e != unix.EPERM {
		t.Errorf("open in the first tree: got %v, want %v", e, unix.EPERM)
	}
}

func link(t *testing.T, to string) string {
	t.Helper()
	name := t.TempDir() + "/link"
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestGapsBetweenScansAreBounded(t *testing.T) {
	b := &Backend{}
	for i := range 2 * maxNewGaps {
		b.keepGaps([]gap{{"/tree/" + itoa(i), "why"}, {"/tree/0", "why"}})
	}
	if len(b.gaps) != maxNewGaps {
		t.Errorf("kept %d gaps, want %d", len(b.gaps), maxNewGaps)
	}
	b = &Backend{}
	b.keepGaps([]gap{{"/tree/0", "why"}, {"/tree/0", "why"}})
	if len(b.gaps) != 1 {
		t.Errorf("kept one gap %d times", len(b.gaps))
	}
}

func TestApart(t *testing.T) {
	one, other := t.TempDir()+"/ns", t.TempDir()+"/ns"
	for name, to := range map[string]string{one: "mnt:[1]", other: "mnt:[2]"} {
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{{"the same", one, one, false}, {"two", one, other, true}, {"cannot tell", one, "/nowhere", false}, {"a real one", "/proc/self/ns/mnt", one, true}} {
		if got := apart(c.a, c.b); got != c.want {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no workers", Options{Trees: []string{"/tmp"}}, "give 1 to"},
		{"short hold limit", Options{Trees: []string{"/tmp"}, Workers: 1, HoldLimit: 1}, "hold limit"},
		{"bad exempt", Options{Trees: []string{"/tmp"}, Workers: 1, Exempt: []int{-1}}, "exempt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if b, err := Open(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
				b.Close()
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		path, root string
		want       bool
	}{
		{"/srv/app", "/srv/app", true}, {"/srv/app/x", "/srv/app", true}, {"/srv/apple", "/srv/app", false},
		{"/srv", "/srv/app", false}, {"/x", "/", true}, {"/", "/", true}, {"x", "/", false}, {"", "/", false}, {"", "/srv", false},
	} {
		if got := within(c.path, c.root); got != c.want {
			t.Errorf("%q in %q: got %v, want %v", c.path, c.root, got, c.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const text = "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n" +
		"40 22 0:35 /sub /mnt/a\\040b\\134c\\012d rw shared:1 master:2 - tmpfs none rw\n" +
		"short line\nx 1 0:1 / /bad rw - tmpfs none rw\n41 22 0:4 / /mnt/p rw - proc proc rw\n"
	ms := parseMounts(text)
	want := []mount{{22, 1, "/", "/", "ext4"}, {40, 22, "/sub", "/mnt/a b\\c\nd", "tmpfs"}, {41, 22, "/", "/mnt/p", "proc"}}
	if !slices.Equal(ms, want) {
		t.Fatalf("got %+v, want %+v", ms, want)
	}
	points, gaps := newTable(ms).pointsIn(ms, []string{"/mnt"}, false)
	if !slices.Equal(points, []string{want[1].point}) || len(gaps) != 1 || gaps[0].path != "/mnt/p" {
		t.Errorf("got %q, gaps %q", points, gaps)
	}
}

// Close waits for the watcher, whatever the number of directories that it still has to see.
func TestCloseEndsAScan(t *testing.T) {
	needRoot(t)
	dir := tree(t)
	mkdir(t, dir+"/sub")
	b := open(t, Options{})
	mounts, err := readMounts(b.mountinfo)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.marks.mark([]string{dir}, mounts, []string{dir}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want %v", err, ErrClosed)
	}
	if b.marked(dir) || b.marked(dir+"/sub") {
		t.Error("the directories are marked, want the scan to end")
	}
}

func TestOpenDirOfAnyLength(t *testing.T) {
	path := t.TempDir()
	for len(path) < 9000 {
		path += "/" + strings.Repeat("d", 200)
	}
	makeLong(t, path+"/file")
	at, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(at)
	fd, err := openParts(at, path[1:], func(at int, part string, flags int) (int, error) { return openNear(at, part, flags, 0) })
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstatat(fd, "file", &st, 0); err != nil {
		t.Errorf("its file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("257 0xffffff9c 0x559f 0x401 0x0 0x0 0x7fd1 0x7ffc 0x7fd1\n"))
	f.Add([]byte("Name:\tx\nTgid:\t1\nUid:\t1\t1\t1\t1\nGid:\t1\t1\t1\t1\n"))
	f.Add([]byte("1 (a) S 1 1 1 0 -1 4 1 0 0 0 0 0 0 0 20 0 1 0 777 1"))
	f.Add([]byte("0::/a/b\n"))
	f.Add([]byte("40 22 0:35 / /a\\040 rw - tmpfs none rw\n"))
	f.Add(make([]byte, eventBytes))
	f.Fuzz(func(t *testing.T, text []byte) {
		var r abi.Request
		var comm [16]byte
		parseStatus(text, &r)
		parseStat(text, &comm)
		if p := cgroupPath(text); len(p) > 0 && p[0] != '/' {
			t.Errorf("cgroup path %q", p)
		}
		parseMounts(string(text))
		parseSyscall(text)
		parseEvent(text)
	})
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A mount that root may not enter costs nothing but itself.
func TestMountThatRootMayNotEnter(t *testing.T) {
	needRoot(t)
	for _, c := range []struct {
		name string
		make func(testing.TB) string
		ask  bool
		want string // of the warning
	}{
		{"below a directory", tree, false, "ask_remote"},
		{"below a mount", mounted, false, "ask_remote"},
		{"below a directory, asked", tree, true, "allow_other"},
		{"below a mount, asked", mounted, true, "allow_other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := c.make(t)
			for _, sub := range []string{"/closed", "/later", "/z", "/zz"} {
				mkdir(t, dir+sub)
			}
			fuseAt(t, dir+"/closed", "")
			mountAt(t, dir+"/z")
			touch(t, dir+"/z/file")
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}, AskRemote: c.ask})
			serve(t, b.Sources()[0], deny)
			refused := func(path string) {
				t.Helper()
				if e := sub.open(path); e != unix.EPERM {
					t.Errorf("open %q: got %v, want %v", path, e, unix.EPERM)
				}
			}
			refused(dir + "/file")
			refused(dir + "/z/file")
			ws := strings.Join(b.Warnings(), "\n")
			if !strings.Contains(ws, dir+"/closed") || !strings.Contains(ws, c.want) {
				t.Errorf("warnings: got %s, want one about %s with %q", ws, dir+"/closed", c.want)
			}
			if n := b.Stats().Unasked; n != 1 {
				t.Errorf("unasked: got %d, want 1", n)
			}

			fuseAt(t, dir+"/later", "")
			mountAt(t, dir+"/zz")
			touch(t, dir+"/zz/file")
			until(t, "a mount that came after it is marked", func() bool { return sub.open(dir+"/zz/file") == unix.EPERM })
			until(t, "the second one is told", func() bool { return strings.Contains(strings.Join(b.Warnings(), "\n"), dir+"/later") })
			if err := b.Configure([]string{dir}, 0, nil); err != nil {
				t.Errorf("Configure: got %v, want success", err)
			}
			if n := b.Stats().WatchErrors; n != 0 {
				t.Errorf("watch errors: got %d, want 0", n)
			}
		})
	}
}

// The scope's own root is an error, before anything of it is touched.
func TestRootOnARemoteFileSystem(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	mkdir(t, dir+"/hung")
	f := fuseAt(t, dir+"/hung", ",allow_other", fuseInit)
	b := open(t, Options{})
	for _, root := range []string{dir + "/hung", dir + "/hung/below"} {
		for _, err := range []error{b.Check([]string{root}), b.Configure([]string{root}, 0, nil)} {
			if err == nil || !strings.Contains(err.Error(), "fuse.test") || !strings.Contains(err.Error(), "ask_remote") {
				t.Errorf("%s: got %v, want an error that names fuse.test and ask_remote", root, err)
			}
		}
	}
	if n := f.count(fuseLookup) + f.count(fuseGetattr); n != 0 {
		t.Errorf("the server was asked %d times, want 0", n)
	}
}

// A root that is gone, or has been mounted over, keeps nobody from following the others.
func TestRootMountedOver(t *testing.T) {
	needRoot(t)
	one, two := tree(t), mounted(t)
	mkdir(t, two+"/late")
	mkdir(t, one+"/deep")
	b := open(t, Options{Trees: []string{one, two}})
	serve(t, b.Sources()[0], deny)
	f := fuseAt(t, one, ",allow_other", fuseLookup)
	mountAt(t, two+"/late")
	touch(t, two+"/late/file")
	sub := newSubject(t)
	until(t, "a mount in the other tree is marked", func() bool { return sub.open(two+"/late/file") == unix.EPERM })
	until(t, "the root is told", func() bool { return strings.Contains(strings.Join(b.Warnings(), "\n"), one) })
	if n := f.count(fuseLookup); n != 0 {
		t.Errorf("the server was asked %d times, want 0", n)
	}
	f.abort()
	until(t, "the root is marked again", func() bool { return b.marked(one) && b.marked(one+"/deep") })
}

// What hangs in a file system that is not asked about holds up nobody.
func TestHungFileSystemIsNotAsked(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	mkdir(t, dir+"/hung")
	f := fuseAt(t, dir+"/hung", ",allow_other", fuseOpen)
	sub := newSubject(t)
	victims := []*subject{newSubject(t), newSubject(t), newSubject(t)}
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], deny)
	defer f.abort() // before the subjects are waited for
	for _, v := range victims {
		v.start(action{Do: "open", Path: []byte(dir + "/hung/file")})
	}
	until(t, "the opens hang", func() bool { return f.count(fuseOpen) == len(victims) })
	if e := sub.open(dir + "/file"); e != unix.EPERM {
		t.Errorf("open: got %v, want %v", e, unix.EPERM)
	}
	until(t, "it is counted", func() bool { return b.Stats().Answered == 1 }) // after the answer, so the subject may be faster
	if n := b.Stats().Events; n != 1 {
		t.Errorf("events: got %d, want 1", n)
	}
}

// A name that could be the kernel's remark is not looked up at a server: whoever may
// mount can put one above a file that he still reaches.
func TestDeletedNameBelowAHungFileSystem(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	mkdir(t, dir+"/d")
	touch(t, dir+"/d/x (deleted)")
	below, err := unix.Open(dir+"/d", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(below)
	f := fuseAt(t, dir+"/d", ",allow_other", fuseLookup)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}})
	serve(t, b.Sources()[0], deny)
	defer f.abort()
	if e := sub.open("/proc/" + itoa(unix.Getpid()) + "/fd/" + itoa(below) + "/x (deleted)"); e != unix.EPERM {
		t.Errorf("open: got %v, want %v", e, unix.EPERM)
	}
	if n := f.count(fuseLookup); n != 0 {
		t.Errorf("the server was asked %d times, want 0", n)
	}
}

// Where it is asked about, every hung open takes a reader with it: the watchdog
// goes on beating and other opens are held for a bounded time.
func TestHungFileSystem(t *testing.T) {
	needRoot(t)
	const limit = 200 * time.Millisecond
	dir := mounted(t)
	mkdir(t, dir+"/hung")
	f := fuseAt(t, dir+"/hung", ",allow_other", fuseOpen)
	sub := newSubject(t)
	victims := []*subject{newSubject(t), newSubject(t), newSubject(t), newSubject(t)}
	var beats atomic.Int64
	b := open(t, Options{Trees: []string{dir}, AskRemote: true, HoldLimit: limit, OnFail: failing(unix.EACCES),
		Beat: func() { beats.Add(1) }})
	serve(t, b.Sources()[0], deny)
	defer f.abort()
	for i, v := range victims {
		v.start(action{Do: "open", Path: []byte(dir + "/hung/file")})
		until(t, "a reader hangs", func() bool { return f.count(fuseOpen) == i+1 })
	}
	o := func() outcome { sub.start(action{Do: "open", Path: []byte(dir + "/file")}); return sub.wait() }()
	if unix.Errno(o.Errno) != unix.EPERM || o.Took > patience/2 {
		t.Errorf("open elsewhere: got %v after %v, want %v soon after %v", unix.Errno(o.Errno), o.Took, unix.EPERM, 2*limit)
	}
	before := beats.Load()
	until(t, "the watchdog beats on", func() bool { return beats.Load() > before+20 })
	until(t, "stuck readers are counted", func() bool { return b.Stats().StuckReaders >= uint64(len(victims)-1) })
	until(t, "no_worker is counted", func() bool { return b.Stats().Failed[abi.ReasonNoWorker] > 0 })

	f.abort()
	for _, v := range victims {
		v.wait()
	}
	until(t, "the readers come back", func() bool { return b.readers.Load() <= 1 })
	if e := sub.open(dir + "/file"); e != unix.EPERM {
		t.Errorf("open afterwards: got %v, want %v", e, unix.EPERM)
	}
}

// Hung opens that are queued before another cost it a moment each, not a limit each.
func TestQueueBehindHungOpens(t *testing.T) {
	needRoot(t)
	const limit, hung = time.Second, 6
	dir := mounted(t)
	mkdir(t, dir+"/hung")
	f := fuseAt(t, dir+"/hung", ",allow_other", fuseOpen)
	sub := newSubject(t)
	var victims []*subject
	for range hung {
		victims = append(victims, newSubject(t))
	}
	b := open(t, Options{Trees: []string{dir}, AskRemote: true, HoldLimit: limit, OnFail: failing(unix.EACCES)})
	b.Sources()[0].Next(new(abi.Request)) // and never again
	defer f.abort()
	for _, v := range victims {
		v.start(action{Do: "open", Path: []byte(dir + "/hung/file")})
	}
	until(t, "they are queued", func() bool { return queueBytes(b.group)/unix.FAN_EVENT_METADATA_LEN+f.count(fuseOpen) >= hung })
	sub.start(action{Do: "open", Path: []byte(dir + "/file")})
	if o := sub.wait(); unix.Errno(o.Errno) != unix.EPERM || o.Took > 5*limit {
		t.Errorf("got %v after %v, want %v soon after %v", unix.Errno(o.Errno), o.Took, unix.EPERM, 2*limit)
	}
}

// A Close that cannot wait leaves no number behind that another file gets, for whoever
// comes back late reads and writes there.
func TestCloseWhileAWorkerHangs(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	mkdir(t, dir+"/hung")
	f := fuseAt(t, dir+"/hung", ",allow_other", fuseOpen)
	victim := newSubject(t)
	b, err := Open(Options{Trees: []string{dir}, AskRemote: true, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	j := serve(t, b.Sources()[0], allow)
	defer f.abort()
	victim.start(action{Do: "open", Path: []byte(dir + "/hung/file")})
	until(t, "the worker hangs", func() bool { return f.count(fuseOpen) == 1 })
	if err := b.Close(); err == nil {
		t.Error("Close: got success, want an error that says who did not come back")
	}
	for range 64 {
		fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if fd == b.group {
			t.Error("the number of the group is another file's")
		}
	}
	f.abort()
	victim.wait()
	j.end()
}

func TestWalk(t *testing.T) {
	const text = "1 0 0:1 / / rw - ext4 /dev/vda rw\n" +
		"2 1 0:2 / /srv rw - xfs /dev/vdb rw\n" +
		"3 2 0:3 / /srv/a rw - tmpfs none rw\n" +
		"4 2 0:4 / /srv/u rw - fuse.sshfs u rw\n" +
		"5 4 0:5 / /srv/u/in rw - tmpfs none rw\n" +
		"6 2 0:6 / /srv/o rw - tmpfs none rw\n" +
		"7 6 0:7 / /srv/o/deep rw - tmpfs none rw\n" +
		"8 6 0:8 / /srv/o rw - nfs4 host:/ rw\n" + // over 6, and so over 7
		"9 2 0:9 / /srv/n rw - nfs4 host:/ rw\n" +
		"10 9 0:10 / /srv/n rw - tmpfs none rw\n" // over 9
	table := newTable(parseMounts(text))
	for _, c := range []struct {
		path   string
		on     int
		remote bool
	}{
		{"/", 1, false}, {"/etc", 1, false}, {"/srv", 2, false}, {"/srvx", 1, false}, {"/srv/a/b", 3, false}, {"/srv/ab", 2, false},
		{"/srv/u", 4, true}, {"/srv/u/x", 4, true}, {"/srv/u/in/x", 5, true}, {"/srv/o", 8, true}, {"/srv/o/deep", 8, true}, {"/srv/n/x", 10, true},
	} {
		crossed := table.walk(c.path)
		_, far := firstRemote(crossed)
		if on := crossed[len(crossed)-1].id; on != c.on || far != c.remote {
			t.Errorf("%s: got mount %d, remote %v, want %d, %v", c.path, on, far, c.on, c.remote)
		}
	}
	points, gaps := table.pointsIn(parseMounts(text), []string{"/srv"}, false)
	if want := []string{"/srv", "/srv/a"}; !slices.Equal(points, want) {
		t.Errorf("points: got %q, want %q", points, want)
	}
	if len(gaps) != 4 {
		t.Errorf("gaps: got %q, want /srv/u, /srv/u/in, /srv/o and /srv/n", gaps)
	}
}

func TestWalkFromAnyRoot(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int // the mount that /srv is on
	}{
		{"a root on another", "20 10 0:1 / / rw - ext4 a rw\n21 20 0:2 / /srv rw - tmpfs none rw\n", 21},
		{"a root that is its own parent", "1 1 0:1 / / rw - rootfs none rw\n21 1 0:2 / /srv rw - tmpfs none rw\n", 21},
		{"a root over a root", "1 1 0:1 / / rw - rootfs none rw\n20 1 0:3 / / rw - ext4 a rw\n21 20 0:2 / /srv rw - tmpfs none rw\n", 21},
		{"a chroot", "21 10 0:2 / /srv rw - tmpfs none rw\n22 21 0:2 / /srv/x rw - tmpfs none rw\n", 21},
		{"nothing mounted there", "1 1 0:1 / / rw - rootfs none rw\n", 1},
	} {
		crossed := newTable(parseMounts(c.text)).walk("/srv")
		if got := crossed[len(crossed)-1].id; got != c.want {
			t.Errorf("%s: got mount %d, want %d", c.name, got, c.want)
		}
	}
}

func TestRemoteTypes(t *testing.T) {
	for fstype, want := range map[string]bool{"fuse": true, "fuse.sshfs": true, "fuseblk": true, "nfs4": true, "cifs": true, "9p": true,
		"fusectl": false, "nfsd": false, "virtiofs": false, "ext4": false, "overlay": false, "btrfs": false, "tmpfs": false} {
		if got := (mount{fstype: fstype}).remote(); got != want {
			t.Errorf("%s: got %v, want %v", fstype, got, want)
		}
	}
}

func TestManyGaps(t *testing.T) {
	var gaps []gap
	for i := range gapsTold + 3 {
		gaps = append(gaps, gap{"/m" + itoa(i), "one"}, gap{"/n", "two"})
	}
	ws := warnGaps(gaps)
	if len(ws) != 2 || !strings.Contains(ws[0], "and 3 more are") || strings.Contains(ws[0], "/m"+itoa(gapsTold)) {
		t.Errorf("got %q, want two sentences, the first with %d places and 3 more", ws, gapsTold)
	}
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const allFields = abi.FieldPath | abi.FieldExe | abi.FieldUID | abi.FieldGID | abi.FieldCgroup | abi.FieldAccess

func TestSubjectFacts(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	for _, old := range []bool{false, true} {
		name := map[bool]string{false: "this kernel", true: "as on 5.0"}[old]
		t.Run(name, func(t *testing.T) {
			sub := newSubject(t)
			b := open(t, Options{Trees: []string{dir}, Want: allFields})
			if old {
				b.features = features{}
			}
			j := serve(t, b.Sources()[0], allow)
			sub.start(action{Do: "thread", Path: []byte(dir + "/file")})
			o := sub.wait()
			seen := j.take()
			if len(seen) != 1 {
				t.Fatalf("asked %d times, want 1: %v", len(seen), paths(seen))
			}
			r := &seen[0]
			exe, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			if int(r.TGID) != sub.pid() || int(r.TID) != o.TID || r.TID == r.TGID {
				t.Errorf("tgid, tid: got %d, %d, want %d, %d", r.TGID, r.TID, sub.pid(), o.TID)
			}
			if r.exe != exe || r.Flags != 0 {
				t.Errorf("exe: got %q (flags %x), want %q", r.exe, r.Flags, exe)
			}
			if r.UID != 0 || r.EUID != 0 || r.GID != 0 || r.EGID != 0 {
				t.Errorf("ids: got %d %d %d %d, want 0", r.UID, r.EUID, r.GID, r.EGID)
			}
			if got := strings.TrimRight(string(r.Comm[:]), "\x00"); !strings.HasPrefix("exe", got) || got == "" {
				t.Errorf("comm: got %q, want exe", got)
			}
			var st unix.Stat_t
			if err := unix.Stat(dir+"/file", &st); err != nil {
				t.Fatal(err)
			}
			if r.Ino != st.Ino || r.Size != (abi.Size{Known: true, Bytes: uint64(st.Size)}) || r.Mode != st.Mode ||
				r.Dev != uint64(unix.Major(st.Dev))<<20|uint64(unix.Minor(st.Dev)) {
				t.Errorf("object: got dev %x ino %d size %v mode %o, want %+v", r.Dev, r.Ino, r.Size, r.Mode, st)
			}
			if r.Have&abi.FieldSize == 0 {
				t.Errorf("of the facts that are known, %v, the size is none", r.Have.Names())
			}
			var up unix.Timespec
			if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
				t.Fatal(err)
			}
			if age := up.Nano() - int64(r.StartBoottime); age < 0 || age > int64(10*patience) {
				t.Errorf("start: got %d, which is %d ns ago", r.StartBoottime, age)
			}
			if r.Access != abi.AccessRead {
				t.Errorf("access: got %d, want read", r.Access)
			}
		})
	}
}

func TestIDs(t *testing.T) {
	const status = "Name:\tUid:\\n7\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t4242\nNgid:\t0\nPid:\t4243\n" +
		"Uid:\t1000\t1001\t1002\t1003\nGid:\t2000\t2001\t2002\t2003\nGroups:\t\n"
	var r abi.Request
	if !parseStatus([]byte(status), &r) {
		t.Fatal("not understood")
	}
	if r.TGID != 4242 || r.UID != 1000 || r.EUID != 1001 || r.GID != 2000 || r.EGID != 2001 {
		t.Errorf("got %d %d %d %d %d, want 4242 1000 1001 2000 2001", r.TGID, r.UID, r.EUID, r.GID, r.EGID)
	}
	for _, bad := range []string{"", "Tgid:\t1\n", status[:strings.Index(status, "\nGid")], "\nTgid:\t99999999999\nUid:\t1\t1\nGid:\t1\t1\n"} {
		if parseStatus([]byte(bad), &r) {
			t.Errorf("%q: got accepted, want refused", bad)
		}
	}
}

func TestCommMayHoldAnything(t *testing.T) {
	stat := "12 (a) S 1 (\n) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2 3"
	var comm [16]byte
	if got, want := parseStat([]byte(stat), &comm), uint64(7_770_000_000); got != want {
		t.Errorf("start: got %d, want %d", got, want)
	}
	if got, want := strings.TrimRight(string(comm[:]), "\x00"), "a) S 1 (\n"; got != want {
		t.Errorf("comm: got %q, want %q", got, want)
	}
	if got := parseStat([]byte("12 (a) S 1 2"), nil); got != 0 {
		t.Errorf("cut short: got %d, want 0", got)
	}
}

func TestAccess(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Want: abi.FieldAccess})
	j := serve(t, b.Sources()[0], allow)
	const r, w = abi.AccessRead, abi.AccessWrite
	for _, c := range []struct {
		name  string
		do    string
		file  string
		flags int
		want  abi.Access
	}{
		{"read", "open", "file", unix.O_RDONLY, r},
		{"write", "open", "file", unix.O_WRONLY, w},
		{"both", "open", "file", unix.O_RDWR, r | w},
		{"append", "open", "file", unix.O_WRONLY | unix.O_APPEND, w | abi.AccessAppend},
		{"truncate", "open", "file", unix.O_WRONLY | unix.O_TRUNC, w | abi.AccessTruncate},
		{"create", "open", "new", unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL, w | abi.AccessCreated},
		{"creat", "creat", "file", 0, w | abi.AccessTruncate},
		{"openat2 is not known", "openat2", "file", unix.O_RDONLY, r | w},
		{"other thread", "thread", "file", unix.O_WRONLY, w},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e := sub.do(action{Do: c.do, Path: []byte(dir + "/" + c.file), Flags: c.flags}); e != 0 {
				t.Fatal(e)
			}
			seen := j.take()
			if len(seen) != 1 || seen[0].Access != c.want {
				t.Errorf("got %d requests, the first with access %b, want one with %b", len(seen), seen[0].Access, c.want)
			}
		})
	}
}

func TestSyscallLine(t *testing.T) {
	const tail = " 0x401 0x0 0x0 0x7fd1 "
	for _, c := range []struct {
		name, line string
		ok         bool
	}{
		{"openat", "257 0xffffff9c 0x559f" + tail + "0x7ffc 0x7fd1\n", true},
		{"io_uring worker", "257 0xffffff9c 0x559f" + tail + "0x0 0x0\n", false},
		{"no system call", "-1 0x7ffc 0x7fd1\n", false},
		{"cut short", "257 0xffffff9c", false},
		{"empty", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			nr, args, ok := parseSyscall([]byte(c.line))
			if ok != c.ok {
				t.Fatalf("got %v, want %v", ok, c.ok)
			}
			if ok && (nr != 257 || args[2] != 0x401) {
				t.Errorf("got number %d, flags %#x, want 257, 0x401", nr, args[2])
			}
		})
	}
}

func TestPaths(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Want: abi.FieldPath})
	j := serve(t, b.Sources()[0], allow)
	long := func(n int) string { // a path of n bytes
		p := dir
		for n-len(p) > 256 {
			p += "/" + strings.Repeat("d", min(200, n-len(p)-3))
		}
		return p + "/" + strings.Repeat("f", n-len(p)-1)
	}
	for _, c := range []struct {
		name, path string
		do         string
		truncated  bool
		want       string // "": as path
	}{
		{name: "newline", path: dir + "/a\nb", do: "open"},
		{name: "escape", path: dir + "/\x1b[31m", do: "open"},
		{name: "invalid UTF-8", path: dir + "/\xff\xfe", do: "open"},
		{name: "4095 bytes", path: long(4095), do: "openlong"},
		{name: "4096 bytes", path: long(4096), do: "openlong", truncated: true},
		{name: "5000 bytes", path: long(5000), do: "openlong", truncated: true},
		{name: "really (deleted)", path: dir + "/x (deleted)", do: "open"},
		{name: "unlinked", path: dir + "/gone", do: "unlinked", want: dir + "/gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			makeLong(t, c.path)
			j.take()
			if e := sub.do(action{Do: c.do, Path: []byte(c.path), Flags: unix.O_RDONLY}); e != 0 {
				t.Fatal(e)
			}
			seen := j.take()
			if len(seen) != 1 {
				t.Fatalf("asked %d times, want 1: %.300q", len(seen), paths(seen))
			}
			got := seen[0]
			if truncated := got.Flags&abi.FlagPathTruncated != 0; truncated != c.truncated {
				t.Fatalf("truncated: got %v, want %v", truncated, c.truncated)
			}
			if !c.truncated && got.path != c.path {
				t.Errorf("path: got %d bytes %.80q, want %d bytes %.80q", len(got.path), got.path, len(c.path), c.path)
			}
			if c.truncated && got.PathLen != 0 {
				t.Errorf("path length: got %d, want 0", got.PathLen)
			}
		})
	}
}

// makeLong creates a file at a path of any length, with the directories above it.
func makeLong(t *testing.T, path string) {
	t.Helper()
	dir := unix.AT_FDCWD
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	parts[0] = "/" + parts[0]
	for i, p := range parts {
		var fd int
		var err error
		if i < len(parts)-1 {
			if err = unix.Mkdirat(dir, p, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
				t.Fatal(err)
			}
			fd, err = unix.Openat(dir, p, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		} else {
			fd, err = unix.Openat(dir, p, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		}
		if dir >= 0 {
			unix.Close(dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		dir = fd
	}
	unix.Close(dir)
}

func TestCgroups(t *testing.T) {
	needRoot(t)
	b := open(t, Options{Trees: []string{mounted(t)}, Want: abi.FieldCgroup})
	if b.cgroupDir < 0 {
		t.Skip("needs a mounted cgroup v2 hierarchy")
	}
	root, err := os.Readlink("/proc/self/fd/" + itoa(b.cgroupDir))
	if err != nil {
		t.Fatal(err)
	}
	inner := filepath.Join(root, "fanotify-test-"+itoa(os.Getpid()), "inner")
	if err := os.MkdirAll(inner, 0o755); err != nil {
		t.Skipf("needs a writable cgroup v2 hierarchy: %v", err)
	}
	t.Cleanup(func() { os.Remove(inner); os.Remove(filepath.Dir(inner)) })
	sub := newSubject(t)
	if err := os.WriteFile(inner+"/cgroup.procs", []byte(itoa(sub.pid())), 0); err != nil {
		t.Skipf("needs to move a process into a cgroup: %v", err)
	}
	t.Cleanup(func() { os.WriteFile(root+"/cgroup.procs", []byte(itoa(sub.pid())), 0) })
	var want [abi.CgroupLevels]uint64
	for i, p := range []string{filepath.Dir(inner), inner} {
		var st unix.Stat_t
		if err := unix.Stat(p, &st); err != nil {
			t.Fatal(err)
		}
		want[i] = st.Ino
	}
	j := serve(t, b.Sources()[0], allow)
	for _, how := range []string{"read", "from the cache", "as on 5.0"} {
		if how == "as on 5.0" {
			j.end()
			b.features = features{}
			j = serve(t, b.Sources()[0], allow)
		}
		if e := sub.open(b.opts.Trees[0] + "/file"); e != 0 {
			t.Fatal(e)
		}
		if seen := j.take(); len(seen) != 1 || seen[0].Cgroup != want {
			t.Errorf("%s: got %v, want %v", how, seen[0].Cgroup, want)
		}
	}
}

// A task that is moved between the two looks at it does not teach the cache that one
// cgroup lies where the other does.
func TestMovedTaskIsNotCached(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("fanotify-test", dir, "cgroup2", 0, ""); err != nil {
		t.Skipf("needs the cgroup v2 hierarchy: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	b := open(t, Options{})
	if b.cgroupDir < 0 {
		t.Skip("needs the root of the cgroup v2 hierarchy")
	}
	s := b.Sources()[0]
	own, ok := s.readProc(uint32(os.Getpid()), "/cgroup\x00")
	path := string(cgroupPath(own))
	if !ok || path == "" {
		t.Skip("needs to see its own cgroup")
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, path), &st); err != nil {
		t.Fatal(err)
	}
	r := &abi.Request{TID: uint32(os.Getpid())}
	s.held.infoOK = true
	for _, c := range []struct {
		name   string
		id     uint64
		cached bool
	}{{"another cgroup", st.Ino + 1, false}, {"the same", st.Ino, true}} {
		s.info.Cgroupid = c.id
		s.cgroup(r)
		if got := s.cgroups.entries[c.id%64].id == c.id; got != c.cached {
			t.Errorf("%s: cached: got %v, want %v", c.name, got, c.cached)
		}
	}
}

func TestCgroupLine(t *testing.T) {
	for text, want := range map[string]string{
		"12:pids:/x\n0::/a/b\n": "/a/b", "0::/\n": "/", "0::/../x\n": "", "1:cpu:/\n": "", "": "", "0::/a (deleted)\n": "", "0::/a": "/a",
	} {
		if got := string(cgroupPath([]byte(text))); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}, Want: allFields})
	s, r := b.Sources()[0], new(abi.Request)
	const runs = 500
	sub.start(action{Do: "many", Path: []byte(dir + "/file"), Arg: itoa(3 * runs)})
	answered := 0
	one := func() {
		for !s.Next(r) {
			s.Park(patience)
		}
		if s.Reply(r, abi.Verdict{}) {
			answered++
		}
	}
	for range runs {
		one()
	}
	runtime.GC()
	if got := testing.AllocsPerRun(runs, one); got != 0 {
		t.Errorf("got %v allocations per request, want 0", got)
	}
	for answered < 3*runs {
		one()
	}
	sub.wait()
}

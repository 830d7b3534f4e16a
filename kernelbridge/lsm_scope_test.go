// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// scopeBench is a subject, a worker, and trees to have scopes of.
type scopeBench struct {
	t                  *testing.T
	b                  *LSM
	w                  *worker
	c                  *child
	dir, tree, outside string
	exe                string // of the subject
	onFail             [abi.EventCount]abi.Verdict
}

// scopeMachine makes one. The trees are on a file system of their own each.
func scopeMachine(t *testing.T) *scopeBench {
	t.Helper()
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	s := &scopeBench{t: t, b: b, dir: t.TempDir()}
	s.tree, s.outside = s.dir+"/tree", s.dir+"/outside"
	for _, dir := range []string{s.tree, s.outside} {
		mustMkdir(t, dir)
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		mustMkdir(t, dir+"/sub")
		mustWrite(t, dir+"/f", []byte("x"), 0o644)
		mustWrite(t, dir+"/g", []byte("x"), 0o644)
		mustWrite(t, dir+"/sub/f", []byte("x"), 0o644)
	}
	s.w = startWorker(t, b, map[string]unix.Errno{})
	s.c = startChild(t)
	s.exe, _ = os.Readlink(fmt.Sprintf("/proc/%d/exe", s.c.cmd.Process.Pid))
	b.Arm(true)
	return s
}

func (s *scopeBench) configure(scope Scope, mute Mute) {
	s.t.Helper()
	p := policyAll(s.onFail)
	p.Mute, p.Sleep = mute, 10*time.Second // an emulated CPU may be away for long
	for _, e := range [...]abi.Event{abi.EventMkdir, abi.EventRmdir, abi.EventRename, abi.EventSignal} {
		p.Asked |= 1 << e
	}
	if err := s.b.Configure(scope, p); err != nil {
		s.t.Fatalf("scope %+v mute %+v: %v", scope, mute, err)
	}
}

// asked reports whether one command of the subject is asked about.
func (s *scopeBench) asked(verb, path string) bool {
	s.t.Helper()
	return s.askedBy(s.c, verb, path)
}

// command is a subject that takes commands.
type command interface {
	do(verb, path string) string
}

func (s *scopeBench) askedBy(c command, verb, path string) bool {
	s.t.Helper()
	// Where a locked hook cannot wait, it asks all the same and does not stay for the
	// answer, so that a worker may never see it.
	count := func() (n uint64) {
		for _, e := range [...]abi.Event{abi.EventRename, abi.EventSignal} {
			c, err := s.b.Counts(e)
			if err != nil {
				s.t.Fatal(err)
			}
			n += c.Asked
		}
		return n
	}
	s.w.take()
	before := count()
	if got := c.do(verb, path); got != "ok" {
		s.t.Fatalf("%s %s: %s", verb, path, got)
	}
	if verb == "rename" || verb == "signal" {
		return count() != before
	}
	return slices.ContainsFunc(s.w.take(), func(asked string) bool { // and nobody else's access
		return strings.Contains(asked, " "+path+" ")
	})
}

// mustCgroup makes a cgroup v2, and returns its path and what the kernel knows it by.
func mustCgroup(t *testing.T, name string) (string, Cgroup) {
	t.Helper()
	dir := CgroupRoot() + name
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(dir) })
	c, err := FindCgroup(name)
	if err != nil {
		t.Fatal(err)
	}
	return dir, c
}

func moveTo(t *testing.T, dir string, pid int) {
	t.Helper()
	if err := os.WriteFile(dir+"/cgroup.procs", fmt.Append(nil, pid), 0); err != nil {
		t.Fatal(err)
	}
}

// Each dimension alone: one scope that the access is in, and one that it is not.
func TestLSMScopeDimensions(t *testing.T) {
	s := scopeMachine(t)
	dir, in := mustCgroup(t, "/arb-in")
	_, below := mustCgroup(t, "/arb-in/below")
	_, other := mustCgroup(t, "/arb-other")
	moveTo(t, dir+"/below", s.c.cmd.Process.Pid)
	t.Cleanup(func() { moveTo(t, CgroupRoot(), s.c.cmd.Process.Pid) })
	exeDir := filepath.Dir(s.exe)
	for _, tc := range []struct {
		name    string
		in, out Scope
	}{
		{"tree", Scope{Trees: []string{s.tree}}, Scope{Trees: []string{s.outside}}},
		{"tree below", Scope{Trees: []string{s.tree + "/sub"}}, Scope{Trees: []string{s.outside + "/sub"}}},
		{"literal file", Scope{Trees: []string{s.tree + "/sub/f"}}, Scope{Trees: []string{s.tree + "/g"}}},
		{"cgroup", Scope{Cgroups: []Cgroup{in}}, Scope{Cgroups: []Cgroup{other}}},
		{"cgroup itself", Scope{Cgroups: []Cgroup{below}}, Scope{Cgroups: []Cgroup{other}}},
		{"uid", Scope{UIDs: []IDRange{{7, 7}, {0, 0}}}, Scope{UIDs: []IDRange{{1, ^uint32(0) - 1}}}},
		{"uid range", Scope{UIDs: []IDRange{{0, 999}}}, Scope{UIDs: []IDRange{{1, 1}, {2, 3}}}},
		{"mount", Scope{Mounts: []string{s.tree}}, Scope{Mounts: []string{s.outside}}},
		{"exe", Scope{Exes: []string{s.exe}}, Scope{Exes: []string{s.tree + "/g"}}},
		{"exe directory", Scope{Exes: []string{exeDir}}, Scope{Exes: []string{s.outside}}},
		{"all", Scope{Trees: []string{s.tree}, Cgroups: []Cgroup{in}, UIDs: []IDRange{{0, 0}}, Mounts: []string{s.tree}, Exes: []string{s.exe}, ProcessTrees: []string{s.exe}},
			Scope{Trees: []string{s.tree}, Cgroups: []Cgroup{in}, UIDs: []IDRange{{0, 0}}, Mounts: []string{s.tree}, Exes: []string{s.exe}, ProcessTrees: []string{s.tree + "/g"}}},
		{"all but exe", Scope{Trees: []string{s.tree}, UIDs: []IDRange{{0, 0}}, Mounts: []string{s.tree}},
			Scope{Trees: []string{s.tree}, UIDs: []IDRange{{0, 0}}, Mounts: []string{s.tree}, Exes: []string{s.outside}}},
		{"process tree that runs", Scope{ProcessTrees: []string{s.exe}}, Scope{ProcessTrees: []string{s.outside + "/f"}}},
		{"empty", Scope{Trees: []string{s.tree}}, Scope{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s.configure(tc.in, Mute{})
			if !s.asked("read", s.tree+"/sub/f") {
				t.Errorf("in scope %+v: not asked", tc.in)
			}
			s.configure(tc.out, Mute{})
			if s.asked("read", s.tree+"/sub/f") {
				t.Errorf("out of scope %+v: asked", tc.out)
			}
			// The same as a mute.
			all := Scope{Trees: []string{"/"}}
			s.configure(all, Mute{Scope: tc.in})
			if s.asked("read", s.tree+"/sub/f") {
				t.Errorf("muted by %+v: asked", tc.in)
			}
			if tc.name[:3] != "all" {
				s.configure(all, Mute{Scope: tc.out})
				if !s.asked("read", s.tree+"/sub/f") {
					t.Errorf("not muted by %+v: not asked", tc.out)
				}
			}
		})
	}
	// An access with two targets is in scope when one of them is.
	s.configure(Scope{Trees: []string{s.tree + "/sub"}}, Mute{})
	for _, tc := range []struct {
		path string
		want bool
	}{{s.tree + "/f:" + s.tree + "/sub/new", true}, {s.tree + "/sub/new:" + s.tree + "/f", true}, {s.tree + "/f:" + s.tree + "/other", false}} {
		if got := s.asked("rename", tc.path); got != tc.want {
			t.Errorf("rename %s: asked %v, want %v", tc.path, got, tc.want)
		}
	}
}

// The truth table of muting. A row is which of process, path and target path the mute
// names the access in, and which of them are inverted; asked is what the table of Apple's
// es_invert_muting says: an access is left alone if any of the three says so, an
// inverted one when it is not named.
func TestLSMMuteInversion(t *testing.T) {
	s := scopeMachine(t)
	dims := [...]struct {
		bit         Dimension
		hit, miss   func(*Scope)
		description string
	}{
		{DimProcessTrees, func(m *Scope) { m.ProcessTrees = []string{s.exe} }, func(m *Scope) { m.ProcessTrees = []string{s.tree + "/g"} }, "process"},
		{DimExes, func(m *Scope) { m.Exes = []string{s.exe} }, func(m *Scope) { m.Exes = []string{s.tree + "/g"} }, "path"},
		{DimTrees, func(m *Scope) { m.Trees = []string{s.tree + "/f"} }, func(m *Scope) { m.Trees = []string{s.tree + "/g"} }, "target path"},
		{DimUIDs, func(m *Scope) { m.UIDs = []IDRange{{0, 0}} }, func(m *Scope) { m.UIDs = []IDRange{{1, 1}} }, "uid"},
		{DimMounts, func(m *Scope) { m.Mounts = []string{s.tree} }, func(m *Scope) { m.Mounts = []string{s.outside} }, "mount"},
	}
	// Apple's three against each other in all combinations, the others one by one.
	for row := range 1 << 6 {
		m := Mute{}
		want, about := true, ""
		for i, d := range dims[:3] {
			muted, inverted := row>>i&1 != 0, row>>(3+i)&1 != 0
			if muted {
				d.hit(&m.Scope)
			} else {
				d.miss(&m.Scope)
			}
			if inverted {
				m.Invert |= d.bit
			}
			if muted != inverted {
				want = false
			}
			about += fmt.Sprintf(" %s muted %v inverted %v;", d.description, muted, inverted)
		}
		s.configure(Scope{Trees: []string{s.tree}}, m)
		if got := s.asked("read", s.tree+"/f"); got != want {
			t.Errorf("%s asked %v, want %v", about, got, want)
		}
	}
	for _, d := range dims[3:] {
		for row := range 4 {
			m := Mute{}
			if row&1 != 0 {
				d.hit(&m.Scope)
			} else {
				d.miss(&m.Scope)
			}
			if row&2 != 0 {
				m.Invert = d.bit
			}
			s.configure(Scope{Trees: []string{s.tree}}, m)
			if got, want := s.asked("read", s.tree+"/f"), row == 0 || row == 3; got != want {
				t.Errorf("%s muted %v inverted %v: asked %v, want %v", d.description, row&1 != 0, row&2 != 0, got, want)
			}
		}
	}
	// Of some events: the others are asked about as if there were no mute, inverted or not.
	for _, tc := range []struct {
		events         uint64
		inverted, want bool
	}{{1 << abi.EventOpen, false, false}, {1<<abi.EventOpen | 1<<abi.EventExec, false, false}, {1 << abi.EventExec, false, true},
		{1 << abi.EventOpen, true, true}, {1 << abi.EventExec, true, true}} {
		m := Mute{Scope: Scope{Trees: []string{s.tree + "/f"}, Exes: []string{s.exe}, UIDs: []IDRange{{0, 0}}}, Events: tc.events}
		if tc.inverted {
			m.Invert = DimTrees | DimExes | DimUIDs
		}
		s.configure(Scope{Trees: []string{s.tree}}, m)
		if got := s.asked("read", s.tree+"/f"); got != tc.want {
			t.Errorf("an open, muted for events %#x, inverted %v: asked %v, want %v", tc.events, tc.inverted, got, tc.want)
		}
	}
	// Two targets: muted when all are; inverted, asked when any is.
	mustMkdir(t, s.tree+"/muted")
	mustWrite(t, s.tree+"/muted/f", []byte("x"), 0o644)
	for _, tc := range []struct {
		name, from, to string
		want, inverted bool
	}{
		{"none muted", s.tree + "/f", s.tree + "/f2", true, false},
		{"new one muted", s.tree + "/f2", s.tree + "/muted/f2", true, true},
		{"both muted", s.tree + "/muted/f2", s.tree + "/muted/f3", false, true},
		{"old one muted", s.tree + "/muted/f3", s.tree + "/f", true, true},
	} {
		m := Mute{Scope: Scope{Trees: []string{s.tree + "/muted"}}}
		s.configure(Scope{Trees: []string{s.tree}}, m)
		if got := s.asked("rename", tc.from+":"+tc.to); got != tc.want {
			t.Errorf("rename, %s: asked %v, want %v", tc.name, got, tc.want)
		}
		m.Invert = DimTrees
		s.configure(Scope{Trees: []string{s.tree}}, m)
		s.w.take()
		if got := s.asked("rename", tc.to+":"+tc.from); got != tc.inverted {
			t.Errorf("rename, %s, inverted: asked %v, want %v", tc.name, got, tc.inverted)
		}
		s.configure(Scope{Trees: []string{s.outside}}, Mute{})
		s.asked("rename", tc.from+":"+tc.to)
	}
	// An event without a target path is no matter of target paths.
	for _, invert := range []Dimension{0, DimTrees} {
		s.configure(Scope{UIDs: []IDRange{{0, 0}}, Exes: []string{s.exe}}, Mute{Scope: Scope{Trees: []string{s.tree, filepath.Dir(s.exe)}}, Invert: invert})
		if !s.asked("signal", "self") {
			t.Errorf("a signal, inverted %v: not asked", invert)
		}
	}
}

// A directory that is removed and made again is another one, and the scope can be asked.
func TestLSMScopeMoved(t *testing.T) {
	s := scopeMachine(t)
	scope := Scope{Trees: []string{s.tree + "/sub"}, UIDs: []IDRange{{0, 0}}}
	mute := Mute{Scope: Scope{Exes: []string{s.outside + "/f"}}}
	check := func(what string, moved, asked bool) {
		t.Helper()
		if got := s.b.Moved(scope, mute); got != moved {
			t.Errorf("%s: moved %v, want %v", what, got, moved)
		}
		if got := s.asked("read", s.tree+"/sub/f"); got != asked {
			t.Errorf("%s: asked %v, want %v", what, got, asked)
		}
	}
	s.configure(scope, mute)
	check("at first", false, true)
	if err := os.Rename(s.tree+"/sub", s.tree+"/old"); err != nil {
		t.Fatal(err)
	}
	if !s.b.Moved(scope, mute) {
		t.Error("gone: not moved")
	}
	mustMkdir(t, s.tree+"/sub")
	mustWrite(t, s.tree+"/sub/f", []byte("x"), 0o644)
	check("made again", true, false)
	s.configure(scope, mute)
	check("looked up again", false, true)
	mustWrite(t, s.outside+"/new", []byte("x"), 0o755)
	if err := os.Rename(s.outside+"/new", s.outside+"/f"); err != nil {
		t.Fatal(err)
	}
	check("a muted program replaced", true, true)
}

// What a scope cannot have is named with the place, all of it at once.
func TestResolveProblems(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, dir+"/f", []byte("x"), 0o644)
	err := CheckScope(Scope{Trees: []string{dir, dir + "/none"}, Mounts: []string{dir, dir + "/none2"}, Exes: []string{dir + "/none3"}},
		Mute{Scope: Scope{ProcessTrees: []string{dir, dir + "/none4"}, Trees: []string{dir + "/none5"}, Exes: []string{dir + "/f"}}}, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{`scope path "` + dir + `/none"`, `scope mount "` + dir + `": nothing is mounted there`, `scope mount "` + dir + `/none2"`,
		`scope exe "` + dir + `/none3"`, `mute process tree "` + dir + `": not a program`, `mute process tree "` + dir + `/none4"`, `mute path "` + dir + `/none5"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not have %s: %v", want, err)
		}
	}
	many := Scope{UIDs: make([]IDRange, maxUIDs+1), Cgroups: make([]Cgroup, maxScope+1), Mounts: slices.Repeat([]string{"/"}, maxScope+1)}
	many.ProcessTrees = []string{dir + "/f", dir + "/f"}
	var trees []Program
	for i := range maxRoots {
		trees = append(trees, Program{1 << 40, uint64(i)})
	}
	err = CheckScope(many, Mute{Scope: many}, trees)
	for _, want := range []string{"ranges of uids: name at most 64", "cgroups: name at most 1024", "mounts: name at most 1024", "scope, mute and rules have 33 process trees: name at most 32"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not have %q: %v", want, err)
		}
	}
}

// The hierarchy of v1 that stands in where there is no v2.
func TestCgroup1(t *testing.T) {
	const ids = "9:name=systemd:/\n8:pids:/a\n4:memory:/process_api/x\n2:cpu,cpuacct:/\n0::/\n"
	const mounts = "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n" +
		"40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:9 - cgroup cgroup rw,xattr,name=systemd\n" +
		"41 31 0:38 /x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n" +
		"42 31 0:39 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
	for _, tc := range []struct {
		name string
		want *cgroupTree
	}{
		{"name=systemd", &cgroupTree{"/sys/fs/cgroup/systemd", 9, "name=systemd"}},
		{"pids", &cgroupTree{"/sys/fs/cgroup/pids", 8, "pids"}},
		{"memory", nil}, // a part of it is mounted alone
		{"cpu", &cgroupTree{"/sys/fs/cgroup/cpu", 2, "cpu"}},
		{"devices", nil},
	} {
		got := cgroup1(tc.name, ids, mounts)
		if got == nil || tc.want == nil {
			if got != tc.want {
				t.Errorf("%s: %+v, want %+v", tc.name, got, tc.want)
			}
		} else if *got != *tc.want {
			t.Errorf("%s: %+v, want %+v", tc.name, *got, *tc.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// startProgram starts a subject from another file than the test binary's own.
func (s *scopeBench) startProgram(path string) *child {
	s.t.Helper()
	c := startChildOf(s.t, path)
	c.do("read", "/dev/null") // it runs
	return c
}

// A process tree: who executed its program, and all that descend from it, through fork,
// exec and a new parent; nobody else. Those that ran before the scope was in force too.
func TestLSMProcessTree(t *testing.T) {
	s := scopeMachine(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	root, other := s.dir+"/root", s.dir+"/other"
	mustWrite(t, root, self, 0o755)
	mustWrite(t, other, self, 0o755)
	file := s.tree + "/f"
	before := s.startProgram(root)
	stranger := s.startProgram(other)
	grandchild := before.startChild(other) // lives as a child of a root's

	scope := Scope{ProcessTrees: []string{root}}
	s.configure(scope, Mute{})
	after := s.startProgram(root)
	child := after.startChild(other)
	orphan := child.startChild(other)
	child.do("die", "now")
	for _, tc := range []struct {
		name string
		c    command
		want bool
	}{
		{"the test's own child", s.c, false},
		{"a stranger", stranger, false},
		{"a root that ran before", before, true},
		{"a child of it", grandchild, true},
		{"a root that started afterwards", after, true},
		{"a grandchild whose parent has gone", orphan, true},
	} {
		if got := s.askedBy(tc.c, "read", file); got != tc.want {
			t.Errorf("%s: asked %v, want %v", tc.name, got, tc.want)
		}
	}
	// Another scope, and back: an old mark means nothing in a new tree.
	s.configure(Scope{ProcessTrees: []string{other}}, Mute{})
	if root, other := s.askedBy(before, "read", file), s.askedBy(stranger, "read", file); root || !other {
		t.Errorf("after a change of the process tree: the root asked %v, the stranger %v; want the stranger alone", root, other)
	}
	for range 70 { // more trees, one after the other, than there are marks
		s.configure(scope, Mute{})
		s.configure(Scope{ProcessTrees: []string{other}}, Mute{})
	}
	if root, other := s.askedBy(before, "read", file), s.askedBy(stranger, "read", file); root || !other {
		t.Errorf("after many changes: the root asked %v, the stranger %v; want the stranger alone", root, other)
	}
	// As a mute, inverted: all but this tree is left alone.
	s.configure(Scope{Trees: []string{s.tree}}, Mute{Scope: scope, Invert: DimProcessTrees})
	if !s.askedBy(before, "read", file) || s.askedBy(stranger, "read", file) {
		t.Error("inverted mute: want the root asked, and not the stranger")
	}
	// A tree that no scope names any more costs nothing.
	s.configure(Scope{Trees: []string{s.tree}}, Mute{})
	if n := len(s.b.lineage.links); n != 0 {
		t.Errorf("%d programs are attached without a process tree", n)
	}
}

// Scopes by cgroup v1, by its own hierarchy without a controller.
func TestLSMScopeCgroup1(t *testing.T) {
	s := scopeMachine(t)
	mnt := s.dir + "/v1"
	mustMkdir(t, mnt)
	if err := unix.Mount("none", mnt, "cgroup", 0, "none,name=arbiter"); err != nil {
		t.Skipf("this kernel has no cgroup v1: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(mnt, unix.MNT_DETACH) })
	mustMkdir(t, mnt+"/a", mnt+"/a/b", mnt+"/c")
	ids, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tree := cgroup1("name=arbiter", string(ids), string(mounts))
	if tree == nil || tree.dir != mnt {
		t.Fatalf("the hierarchy is %+v, want it at %s", tree, mnt)
	}
	find := func(path string) Cgroup {
		c, err := tree.find(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	moveTo(t, mnt+"/a/b", s.c.cmd.Process.Pid)
	t.Cleanup(func() { moveTo(t, mnt, s.c.cmd.Process.Pid) })
	for path, want := range map[string]bool{"/a": true, "/a/b": true, "/c": false} {
		s.configure(Scope{Cgroups: []Cgroup{find(path)}}, Mute{})
		if got := s.asked("read", s.tree+"/f"); got != want {
			t.Errorf("in /a/b, scope %s: asked %v, want %v", path, got, want)
		}
		s.configure(Scope{Trees: []string{s.tree}}, Mute{Scope: Scope{Cgroups: []Cgroup{find(path)}}})
		if got := s.asked("read", s.tree+"/f"); got == want {
			t.Errorf("in /a/b, mute %s: asked %v, want %v", path, got, !want)
		}
	}
	// An id means nothing in another hierarchy.
	s.configure(Scope{Cgroups: []Cgroup{{find("/a").ID, find("/a").Hierarchy + 100}}}, Mute{})
	if s.asked("read", s.tree+"/f") {
		t.Error("the id of a cgroup counts in another hierarchy")
	}
}

// A change of scope and mute is one store: an access that both ask about is asked about
// at every moment, and one that both leave alone never.
func TestLSMScopeChangeUnderLoad(t *testing.T) {
	s := scopeMachine(t)
	s.w.mu.Lock()
	s.w.deny["open "+s.tree+"/f"] = unix.EXDEV
	s.w.deny["open "+s.tree+"/g"] = unix.EXDEV
	s.w.deny["open "+s.tree+"/sub/f"] = unix.EXDEV
	s.w.mu.Unlock()
	// f is asked about in each of them, by other dimensions; g in none.
	exe := Scope{Exes: []string{s.exe}}
	all := []struct {
		scope Scope
		mute  Mute
	}{
		{Scope{Trees: []string{s.tree}}, Mute{Scope: Scope{Trees: []string{s.tree + "/g"}}}},
		{Scope{Mounts: []string{s.tree}, UIDs: []IDRange{{0, 0}}}, Mute{Scope: Scope{Trees: []string{s.tree + "/f"}}, Invert: DimTrees}},
		{Scope{Trees: []string{s.tree + "/f"}, ProcessTrees: []string{s.exe}}, Mute{Scope: Scope{UIDs: []IDRange{{1, 9}}}}},
		{Scope{Exes: exe.Exes, Trees: []string{s.tree}}, Mute{Scope: Scope{Exes: exe.Exes, Trees: []string{s.tree + "/g"}}, Invert: DimExes}},
		{Scope{Trees: []string{s.tree, s.outside}, UIDs: []IDRange{{0, 5}}}, Mute{Scope: Scope{ProcessTrees: []string{s.exe}, Trees: []string{s.tree + "/g"}}, Invert: DimProcessTrees}},
	}
	s.onFail[abi.EventOpen].Errno = uint16(unix.EIO) // told from a miss
	s.configure(all[0].scope, all[0].mute)
	var stop atomic.Bool
	var opens atomic.Uint64
	failed := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			if got := s.c.do("read", s.tree+"/f"); got != "EXDEV" {
				failed <- "missed an access that is in scope: " + got
				return
			}
			if got := s.c.do("read", s.tree+"/g"); got != "ok" {
				failed <- "asked about an access that is left alone: " + got
				return
			}
			opens.Add(1)
		}
	}()
	changes := 0
	for ; changes < 100 || opens.Load() < 100; changes++ {
		next := all[changes%len(all)]
		s.configure(next.scope, next.mute)
		if changes > 100000 || len(failed) > 0 {
			break
		}
	}
	stop.Store(true)
	<-done
	select {
	case text := <-failed:
		t.Errorf("after %d changes and %d opens: %s", changes, opens.Load(), text)
	default:
	}
	t.Logf("%d changes, %d opens", changes, opens.Load())
	checkCounts(t, s.b)
}

// What has become of the scope in force keeps no new one out, and the policy can be
// changed without it.
func TestLSMScopeThatIsGone(t *testing.T) {
	s := scopeMachine(t)
	dir, cgroup := mustCgroup(t, "/arb-gone")
	moveTo(t, dir, s.c.cmd.Process.Pid)
	gone := s.dir + "/gone"
	mustMkdir(t, gone)
	mustWrite(t, gone+"/f", []byte("x"), 0o644)
	s.configure(Scope{Trees: []string{gone}, Cgroups: []Cgroup{cgroup}}, Mute{})
	if err := os.Rename(gone, s.dir+"/away"); err != nil {
		t.Fatal(err)
	}
	p := policyAll([abi.EventCount]abi.Verdict{})
	p.OnFail[abi.EventOpen].Errno = uint16(unix.EACCES)
	if err := s.b.SetPolicy(p); err != nil {
		t.Fatalf("another policy for a scope whose tree was moved: %v", err)
	}
	if !s.asked("read", s.dir+"/away/f") {
		t.Error("after another policy: not asked in the scope in force")
	}
	moveTo(t, CgroupRoot(), s.c.cmd.Process.Pid)
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.b.SetPolicy(p); err != nil {
		t.Fatalf("another policy for a scope whose cgroup was removed: %v", err)
	}
	s.configure(Scope{Trees: []string{s.tree}}, Mute{})
	if !s.asked("read", s.tree+"/f") {
		t.Error("after a new scope: not asked")
	}
}

// startChild makes a child of the subject that is a subject too, and talks to it through
// two fifos.
func (c *child) startChild(path string) *relay {
	c.t.Helper()
	dir := c.t.TempDir()
	for _, name := range []string{"/in", "/out"} {
		if err := unix.Mkfifo(dir+name, 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
	return newRelay(c.t, dir, c.do("spawn", path+":"+dir))
}

// relay is a subject that a subject has started.
type relay struct {
	t       *testing.T
	in, out *os.File
}

func newRelay(t *testing.T, dir, pid string) *relay {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatalf("starting a child of the subject: %s", pid)
	}
	t.Cleanup(func() { unix.Kill(n, unix.SIGKILL) })
	r := &relay{t: t}
	if r.in, err = os.OpenFile(dir+"/in", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if r.out, err = os.OpenFile(dir+"/out", os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.in.Close(); r.out.Close() })
	return r
}

func (r *relay) do(verb, path string) string {
	r.t.Helper()
	fmt.Fprintln(r.in, verb, path)
	if verb == "die" {
		return ""
	}
	var line strings.Builder
	for b := make([]byte, 1); ; {
		if _, err := r.out.Read(b); err != nil {
			r.t.Fatalf("reading a child of the subject: %v", err)
		}
		if b[0] == '\n' {
			return line.String()
		}
		line.WriteByte(b[0])
	}
}

func (r *relay) startChild(path string) *relay {
	r.t.Helper()
	dir := r.t.TempDir()
	for _, name := range []string{"/in", "/out"} {
		if err := unix.Mkfifo(dir+name, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
	return newRelay(r.t, dir, r.do("spawn", path+":"+dir))
}

// scopeVerb is what a subject does for the tests of scopes.
func scopeVerb(verb, arg string) string {
	a, b, _ := strings.Cut(arg, ":")
	switch verb {
	case "rename": // from:to
		return outcome(unix.Rename(a, b))
	case "spawn": // program:directory, a child that reads and writes fifos there
		return spawn(a, b)
	case "signal": // none, to itself
		return outcome(unix.Kill(unix.Getpid(), 0))
	}
	os.Exit(0)
	return ""
}

// spawn starts another subject and returns its pid.
func spawn(program, dir string) string {
	in, err := os.OpenFile(dir+"/in", os.O_RDWR, 0)
	if err != nil {
		return outcome(err)
	}
	defer in.Close()
	out, err := os.OpenFile(dir+"/out", os.O_RDWR, 0)
	if err != nil {
		return outcome(err)
	}
	defer out.Close()
	cmd := exec.Command(program, "serve")
	cmd.Stdin, cmd.Stdout = in, out
	if err := cmd.Start(); err != nil {
		return outcome(err)
	}
	go cmd.Wait()
	return fmt.Sprint(cmd.Process.Pid)
}

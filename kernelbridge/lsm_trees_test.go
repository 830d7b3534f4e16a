// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// treeBench is a scopeBench whose worker refuses who is in a process tree.
type treeBench struct {
	*scopeBench
	file        string
	root, other string // programs
}

func treeMachine(t *testing.T) *treeBench {
	t.Helper()
	s := &treeBench{scopeBench: scopeMachine(t)}
	s.file, s.root, s.other = s.tree+"/f", s.dir+"/root", s.dir+"/other"
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s.root, self, 0o755)
	mustWrite(t, s.other, self, 0o755)
	return s
}

// policy names some process trees.
func (s *treeBench) policy(paths ...string) Policy {
	s.t.Helper()
	p := policyAll(s.onFail)
	for _, path := range paths {
		program, err := FindProgram(path)
		if err != nil {
			s.t.Fatal(err)
		}
		p.Trees = append(p.Trees, program)
	}
	return p
}

// refuse has the worker refuse who is in a tree, by a rule set that names it: with EXDEV, and
// with EIO whom it cannot tell of.
func (s *treeBench) refuse(path string) uint64 {
	s.t.Helper()
	bits, since, err := s.b.Marks(s.policy(path).Trees)
	if err != nil {
		s.t.Fatal(err)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.judge = func(q *abi.Request) unix.Errno {
		switch {
		case q.Marks < since:
			return unix.EIO
		case q.Trees&bits[0] != 0:
			return unix.EXDEV
		}
		return 0
	}
	return bits[0]
}

// push puts a rule set in force that refuses who is in a tree, as the daemon does: first the
// kernel side has the trees of both, then the workers have the new one, then the old one goes.
func (s *treeBench) push(before, next string) {
	s.t.Helper()
	for _, p := range []Policy{s.policy(before, next), s.policy(next)} {
		if err := s.b.SetPolicy(p); err != nil {
			s.t.Fatal(err)
		}
		s.refuse(next)
	}
}

func (s *treeBench) want(who string, c command, want string) {
	s.t.Helper()
	if got := c.do("read", s.file); got != want {
		s.t.Errorf("%s: %s, want %s", who, got, want)
	}
}

// Who has executed a program, and who descends from who did, is told from all others, whatever
// became of the parents between, and also when it ran before anybody asked.
func TestLSMTreesOfRules(t *testing.T) {
	s := treeMachine(t)
	before := s.startProgram(s.root)
	stranger := s.startProgram(s.other)
	grandchild := before.startChild(s.other)
	if err := s.b.Configure(Scope{Trees: []string{s.tree}}, s.policy(s.root)); err != nil {
		t.Fatal(err)
	}
	s.refuse(s.root)
	after := s.startProgram(s.root)
	child := after.startChild(s.other)
	orphan := child.startChild(s.other)
	child.do("die", "now")
	s.want("the test's own child", s.c, "ok")
	s.want("a stranger", stranger, "ok")
	s.want("a root that ran before", before, "EXDEV")
	s.want("a child of it", grandchild, "EXDEV")
	s.want("a root that started afterwards", after, "EXDEV")
	s.want("a grandchild whose parent has gone", orphan, "EXDEV")
	s.want("the child of that", orphan.startChild(s.other), "EXDEV")

	// Other rules: what runs gets the marks of the trees that they name.
	for range 70 { // more, one after the other, than there are marks
		s.push(s.root, s.other)
		s.push(s.other, s.root)
	}
	s.want("a stranger, after many pushes", stranger, "ok")
	s.want("a root, after many pushes", before, "EXDEV")
	s.push(s.root, s.other)
	s.want("the other program", stranger, "EXDEV")
	s.want("a child that executed the other program", grandchild, "EXDEV")
	s.want("a root that did not", before, "ok")

	// A tree that scope and rules name has one mark, and none is left when nobody names one.
	scoped := s.policy(s.root)
	scoped.Mute = Mute{Scope: Scope{ProcessTrees: []string{s.other}}}
	if err := s.b.Configure(Scope{Trees: []string{s.tree}, ProcessTrees: []string{s.root}}, scoped); err != nil {
		t.Fatal(err)
	}
	s.refuse(s.root)
	s.want("a root in the scope", before, "EXDEV")
	s.want("who is out of the scope", s.c, "ok")
	s.want("who is muted", grandchild, "ok")
	if n := distinct(s.b.keys.roots()); n != 2 {
		t.Errorf("%d process trees, want 2", n)
	}
	if err := s.b.Configure(Scope{Trees: []string{s.tree}}, s.policy()); err != nil {
		t.Fatal(err)
	}
	if n := len(s.b.lineage.links); n != 0 {
		t.Errorf("%d programs are attached without a process tree", n)
	}
	if _, _, err := s.b.Marks(scoped.Trees); err == nil {
		t.Error("there are marks of a tree that no policy names")
	}
}

// A push never confuses two trees: who is in one that both sets name is told from who is in
// none at every moment, while the marks of others go from program to program.
func TestLSMTreesUnderLoad(t *testing.T) {
	s := treeMachine(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	for i := range 3 {
		others = append(others, fmt.Sprintf("%s/other%d", s.dir, i))
		mustWrite(t, others[i], self, 0o755)
	}
	if err := s.b.Configure(Scope{Trees: []string{s.tree}}, s.policy(s.root, others[0])); err != nil {
		t.Fatal(err)
	}
	bit := s.refuse(s.root)
	in, out := s.startProgram(s.root).startChild(s.other), s.startProgram(others[1])
	var stop atomic.Bool
	var opens atomic.Uint64
	failed := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !stop.Load() {
			if got := in.do("read", s.file); got != "EXDEV" {
				failed <- "who is in the tree: " + got
				return
			}
			if got := out.do("read", s.file); got != "ok" {
				failed <- "who is in another one: " + got
				return
			}
			opens.Add(1)
		}
	}()
	pushes := 0
	for ; (pushes < 50 || opens.Load() < 50) && pushes < 100000 && len(failed) == 0; pushes++ {
		was, is := others[pushes%len(others)], others[(pushes+1)%len(others)]
		for _, p := range []Policy{s.policy(s.root, was, is), s.policy(is, s.root)} {
			if err := s.b.SetPolicy(p); err != nil {
				t.Fatal(err)
			}
		}
		if bits, _, err := s.b.Marks(s.policy(s.root, is).Trees); err != nil || bits[0] != bit || bits[1] == bit {
			t.Fatalf("push %d: the marks are %#x, %v; the first has to stay %#x", pushes, bits, err, bit)
		}
	}
	stop.Store(true)
	<-done
	select {
	case text := <-failed:
		t.Errorf("after %d pushes and %d opens: %s", pushes, opens.Load(), text)
	default:
	}
	t.Logf("%d pushes, %d opens", pushes, opens.Load())
	checkCounts(t, s.b)
}

// An allow that the kernel keeps is for those alone who are in the same trees.
func TestLSMTreesKept(t *testing.T) {
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if missing := capabilities(spec).sleep; missing != "" {
		t.Skipf("verdicts cannot be kept here: %s", missing) // the same kernels: since 6.11 and 6.12
	}
	s := treeMachine(t)
	s.w.mu.Lock()
	s.w.keep = true
	s.w.mu.Unlock()
	policy := func(paths ...string) Policy {
		p := s.policy(paths...)
		p.Keep[abi.EventOpen] = abi.FieldKeep | abi.FieldPath | abi.FieldAccess | abi.FieldTree
		return p
	}
	if err := s.b.Configure(Scope{Trees: []string{s.tree}}, policy(s.root)); err != nil {
		t.Fatal(err)
	}
	s.refuse(s.root)
	var st unix.Stat_t
	if err := unix.Stat(s.file, &st); err != nil {
		t.Fatal(err)
	}
	await(t, "settled file", func() bool { return time.Now().Unix() > st.Ctim.Sec+3 })
	root, stranger, another := s.startProgram(s.root), s.startProgram(s.other), s.startProgram(s.other)
	reads := func(who string, c command, want string, asked int) {
		t.Helper()
		s.w.take()
		for range 2 {
			s.want(who, c, want)
		}
		if got := s.w.take(); len(got) != asked {
			t.Errorf("%s: asked %q, want %d questions of 2 opens", who, got, asked)
		}
	}
	reads("a stranger", stranger, "ok", 1)
	reads("another stranger", another, "ok", 0)
	reads("who is in the tree", root, "EXDEV", 2)
	reads("a stranger again", stranger, "ok", 0)
	reads("a stranger's child that executes the program", stranger.startChild(s.root), "EXDEV", 2)
	// Under other rules: what was kept is forgotten, and both have other marks.
	for _, p := range []Policy{policy(s.root, s.other), policy(s.other)} {
		if err := s.b.SetPolicy(p); err != nil {
			t.Fatal(err)
		}
		s.refuse(s.other)
	}
	reads("who is in the other tree", stranger, "EXDEV", 2)
	reads("who is in none any more", root, "ok", 1)
	counts, err := s.b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Cached == 0 || counts.Asked != counts.Cached+counts.Answered {
		t.Errorf("counts %+v, want some cached, and asked = cached + answered", counts)
	}
}

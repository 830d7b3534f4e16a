// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A child that is being made while the marks of its parent change has those of its parent: it
// neither leaves a tree that a push names, nor gets into one by a mark that was another tree's.
func TestLSMTreesOfForks(t *testing.T) {
	s := treeMachine(t)
	names := []string{s.other, s.root, s.dir + "/third"} // so that each has other marks again and again
	copySelf(t, names[2])
	if err := s.b.Configure(Scope{Trees: []string{s.tree}}, s.policy(names[0])); err != nil {
		t.Fatal(err)
	}
	var seen, left, entered atomic.Uint64
	judge := func(next string) {
		bits, since, err := s.b.Marks(s.policy(next).Trees)
		if err != nil {
			t.Fatal(err)
		}
		s.w.mu.Lock()
		defer s.w.mu.Unlock()
		s.w.judge = func(q *abi.Request) unix.Errno {
			if q.Marks < since || string(q.Path()) != s.file {
				return 0
			}
			seen.Add(1)
			switch in := q.Trees&bits[0] != 0; {
			case next == s.root && !in:
				left.Add(1)
			case next != s.root && in:
				entered.Add(1)
			}
			return 0
		}
	}
	judge(names[0])
	c := s.startProgram(s.root)
	done := make(chan string, 1)
	go func() { done <- c.do("forks", "40:"+s.file) }()
	made, pushes := "", 0
	for ; made == ""; pushes++ {
		was, is := names[pushes%3], names[(pushes+1)%3]
		for _, p := range []Policy{s.policy(was, is), s.policy(is)} {
			if err := s.b.SetPolicy(p); err != nil {
				t.Fatal(err)
			}
			judge(is)
		}
		select {
		case made = <-done:
		case <-time.After(time.Duration(pushes%7) * 10 * time.Millisecond): // a child opens before the next push
		}
	}
	if made != "40" {
		t.Fatalf("making children: %s", made)
	}
	t.Logf("%d pushes, %d children looked at", pushes, seen.Load())
	if seen.Load() == 0 || left.Load()+entered.Load() > 0 {
		t.Errorf("of %d children %d have left their tree, and %d have entered another", seen.Load(), left.Load(), entered.Load())
	}
}

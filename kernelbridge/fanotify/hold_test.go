// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// nextOf returns the next request of a source.
func nextOf(t *testing.T, s *Source) *abi.Request {
	t.Helper()
	r := &abi.Request{Format: abi.FormatELF, Verity: abi.Verity{Alg: abi.VeritySHA256}, Flags: abi.FlagDigest} // of the one before
	for end := time.Now().Add(patience); !s.Next(r); {
		if time.Now().After(end) {
			t.Fatal("nothing is asked")
		}
		s.Park(10 * time.Millisecond)
	}
	if r.Content() != 0 {
		t.Errorf("it knows %v; want nothing of the content", r.Content().Names())
	}
	return r
}

// holding opens a backend and has n subjects held in an open each, all set aside.
func holding(t *testing.T, n int, o Options) (*Backend, *Source, []*subject, []*abi.Request) {
	t.Helper()
	needRoot(t)
	dir := mounted(t)
	var subs []*subject
	for i := range n + 1 { // the last one is for the test
		subs = append(subs, newSubject(t))
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("held", i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.Trees = []string{dir}
	b := open(t, o)
	s := b.Sources()[0]
	s.Next(new(abi.Request)) // from here on we alone answer, so nothing else may open anything there
	var reqs []*abi.Request
	for i := range n {
		path := filepath.Join(dir, fmt.Sprint("held", i))
		subs[i].start(action{Do: "open", Path: []byte(path)})
		r := nextOf(t, s)
		if string(r.Path()) != path || !s.Hold(r) {
			t.Fatalf("request %d of %q is not held", i, r.Path())
		}
		if !s.Hold(r) {
			t.Fatal("a request that is set aside cannot wait for something else")
		}
		reqs = append(reqs, r)
	}
	if s.Hold(&abi.Request{Ticket: reqs[0].Ticket + mostHeld}) || s.Hold(&abi.Request{Ticket: mostHeld - 1}) {
		t.Fatal("a request that is none is set aside")
	}
	taken := 0
	for i := range s.all {
		if h := &s.all[i]; h.state.Load() != h.word(idle) {
			taken++
		}
	}
	if taken != n {
		t.Fatalf("%d places are taken, want %d", taken, n)
	}
	return b, s, subs, reqs
}

// Requests that are set aside are answered in any order, and others between.
func TestHold(t *testing.T) {
	b, s, subs, reqs := holding(t, 3, Options{HoldLimit: MaxHoldLimit})
	dir := filepath.Dir(string(reqs[0].Path()))
	other := subs[3]
	other.start(action{Do: "open", Path: []byte(dir + "/file")})
	r := nextOf(t, s)
	if !s.Reply(reqs[1], abi.Verdict{Errno: 13}) || !s.Reply(r, abi.Verdict{}) || s.Reply(reqs[1], abi.Verdict{}) {
		t.Error("the wrong ones were answered")
	}
	if e := unix.Errno(other.wait().Errno); e != 0 {
		t.Errorf("the one at hand: %v, want success", e)
	}
	for _, i := range []int{2, 0} {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", reqs[i].File))
		if err != nil || name != string(reqs[i].Path()) {
			t.Errorf("the file of request %d is %q (%v), want %q", i, name, err, reqs[i].Path())
		}
		if !s.Reply(reqs[i], abi.Verdict{}) {
			t.Errorf("request %d: the answer is late", i)
		}
	}
	for i, want := range []unix.Errno{0, unix.EPERM, 0} {
		if e := unix.Errno(subs[i].wait().Errno); e != want {
			t.Errorf("request %d: %v, want %v", i, e, want)
		}
	}
	if st := b.Stats(); st.Answered != 4 || st.Late != 1 { // the second answer to the same
		t.Errorf("%d answered, %d late, want 4 and 1", st.Answered, st.Late)
	}
}

// What is set aside has the same bound as what is at hand, and the worker learns of it.
func TestHoldLimitHoldsAside(t *testing.T) {
	b, s, subs, reqs := holding(t, 2, Options{HoldLimit: 200 * time.Millisecond, OnFail: failing(unix.EPERM)})
	for i := range reqs {
		if e := unix.Errno(subs[i].wait().Errno); e != unix.EPERM {
			t.Errorf("request %d: %v, want the failure verdict", i, e)
		}
		if s.Reply(reqs[i], abi.Verdict{}) {
			t.Errorf("request %d: the answer is in time", i)
		}
	}
	if st := b.Stats(); st.Failed[abi.ReasonDeadline] != 2 || st.Late != 2 {
		t.Errorf("%d by deadline, %d late, want 2 each", st.Failed[abi.ReasonDeadline], st.Late)
	}
	for i := range s.all { // no place is lost
		if h := &s.all[i]; h.state.Load() != h.word(idle) {
			t.Errorf("place %d is not free", i)
		}
	}
}

// Close lets go what is set aside.
func TestCloseWhileAside(t *testing.T) {
	b, s, subs, reqs := holding(t, 2, Options{HoldLimit: MaxHoldLimit})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range reqs {
		if e := unix.Errno(subs[i].wait().Errno); e != 0 {
			t.Errorf("request %d: %v, want success", i, e)
		}
		if s.Reply(reqs[i], abi.Verdict{}) {
			t.Errorf("request %d: answered after Close", i)
		}
	}
}

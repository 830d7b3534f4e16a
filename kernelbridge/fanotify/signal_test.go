// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestSignalWhileHeld: a signal that is handled ends no hold and turns no deny into
// an allow.
func TestSignalWhileHeld(t *testing.T) {
	needRoot(t)
	dir := mounted(t)
	sub := newSubject(t)
	b := open(t, Options{Trees: []string{dir}})
	s, r := b.Sources()[0], new(abi.Request)
	s.Next(r) // from now on nobody else answers at once
	sub.start(action{Do: "open", Path: []byte(dir + "/file")})
	takeOne(t, s, r)
	for range 3 {
		// SIGURG has a handler in every Go program.
		if err := unix.Tgkill(sub.pid(), int(r.TID), unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	if !s.Reply(r, abi.Verdict{Errno: uint16(unix.EPERM)}) {
		t.Error("reply: got false, want true: the task still waits")
	}
	if o := sub.wait(); unix.Errno(o.Errno) != unix.EPERM {
		t.Errorf("open: got %v, want %v", unix.Errno(o.Errno), unix.EPERM)
	}
	if st := b.Stats(); st.Answered != 1 || st.Events != 1 {
		t.Errorf("got %d answered of %d events, want 1 of 1", st.Answered, st.Events)
	}
}

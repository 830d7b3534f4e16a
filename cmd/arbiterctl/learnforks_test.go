// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// forkMessage is what the kernel sends of a fork, times in nanoseconds.
func forkMessage(at uint64, parent, child, leader uint32) []byte {
	b := make([]byte, connectorHeader+16+24)
	le := binary.NativeEndian
	le.PutUint32(b[16:], cnIdxProc)
	le.PutUint32(b[connectorHeader:], procEventFork)
	le.PutUint64(b[connectorHeader+8:], at)
	for i, v := range []uint32{parent, parent, child, leader} {
		le.PutUint32(b[connectorHeader+16+4*i:], v)
	}
	return b
}

// base is the boot clock when the messages begin.
const base = 1_000_000_000

// forksOf is what follows those messages, with 10 as the root.
func forksOf(most int, messages ...[]byte) *forks {
	f := newForks(nil, most)
	f.shift, f.began = base, base
	f.root(10)
	for _, m := range messages {
		f.message(m)
	}
	return f
}

func TestForks(t *testing.T) {
	f := forksOf(100,
		forkMessage(1, 1, 10, 10),  // the command
		forkMessage(2, 10, 11, 11), // its child
		forkMessage(3, 11, 12, 12), // and of that one
		forkMessage(4, 11, 13, 11), // a thread
		forkMessage(5, 1, 20, 20),  // of another
		forkMessage(50, 1, 11, 11), // the number of the child, given again
		forkMessage(51, 11, 14, 14),
	)
	for _, tc := range []struct {
		name        string
		p           process
		ours, known bool
	}{
		{"the command", process{10, base + 1}, true, true},
		{"the command, by its number", process{10, 0}, true, true},
		{"a child that began in a tick before", process{11, base + 0}, true, true},
		{"a grandchild", process{12, base + 3}, true, true},
		{"another", process{20, base + 5}, false, true},
		{"another with the number of the child", process{11, base + 50}, false, true},
		{"its child", process{14, base + 51}, false, true},
		{"one that was there before", process{3, 7}, false, true},
		{"one that has not been told yet", process{4, base + 1000}, false, false},
		{"a thread is no process", process{13, base + 4}, false, false},
	} {
		if ours, known := f.ours(tc.p); ours != tc.ours || known != tc.known {
			t.Errorf("%s: ours %v, known %v, want %v, %v", tc.name, ours, known, tc.ours, tc.known)
		}
	}
	if f.overrun() {
		t.Error("overrun, want none")
	}
	if f := forksOf(1, forkMessage(1, 1, 2, 2), forkMessage(2, 1, 3, 3)); !f.overrun() {
		t.Error("no overrun with more messages than are kept")
	}
}

// A root that was there before is one, until its number is given again.
func TestForksOfOlderRoots(t *testing.T) {
	f := forksOf(100, forkMessage(1, 10, 11, 11))
	for _, p := range []process{{10, 3}, {11, base + 1}} {
		if ours, known := f.ours(p); !ours || !known {
			t.Errorf("%v: ours %v, known %v, want both", p, ours, known)
		}
	}
}

// The kernel of this machine tells of a shell that is gone by then.
func TestForksOfTheKernel(t *testing.T) {
	f, err := watchForks()
	if os.Geteuid() != 0 && err != nil {
		t.Skipf("needs root (CAP_NET_ADMIN): %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	out, err := exec.Command("sh", "-c", `echo $$; sh -c 'echo $$'; true`).Output()
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(string(out))
	f.root(os.Getpid())
	for _, pid := range pids {
		p := process{tgid: uint32(atoi(t, pid))}
		eventually(t, "that "+pid+" is ours", func() bool { ours, _ := f.ours(p); return ours })
	}
	if ours, _ := f.ours(process{tgid: 1}); ours {
		t.Error("process 1 is ours")
	}
	f.close()
}

// Whatever comes on the socket is read without a panic, and what is kept is bounded.
func FuzzForkMessage(f *testing.F) {
	f.Add(forkMessage(1, 10, 11, 11))
	f.Add(forkMessage(1, 10, 11, 11)[:40])
	f.Add(make([]byte, unix.SizeofNlMsghdr))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4096 {
			return
		}
		got := forksOf(2, b, b, b)
		got.ours(process{11, 0})
		if len(got.queue)+got.kept > 2 {
			t.Errorf("%d messages are kept, want at most 2", len(got.queue)+got.kept)
		}
	})
}

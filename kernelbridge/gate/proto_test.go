// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// request builds a request as the kernel writes it.
func request(opcode uint32, unique uint64, tid uint32, body []byte) []byte {
	b := make([]byte, inHeaderBytes, inHeaderBytes+len(body))
	le := binary.NativeEndian
	le.PutUint32(b, uint32(inHeaderBytes+len(body)))
	le.PutUint32(b[4:], opcode)
	le.PutUint64(b[8:], unique)
	le.PutUint64(b[16:], rootID)
	le.PutUint32(b[32:], tid)
	return append(b, body...)
}

func words(v ...uint32) (b []byte) {
	for _, w := range v {
		b = binary.NativeEndian.AppendUint32(b, w)
	}
	return b
}

func getxattr(unique uint64, tid, size uint32, name string) []byte {
	return request(opGetxattr, unique, tid, append(words(size, 0), name+"\x00"...))
}

func TestDecode(t *testing.T) {
	short := getxattr(2, 3, 4, Attribute)
	binary.NativeEndian.PutUint32(short, 10)
	for _, tc := range []struct {
		name string
		in   []byte
		want message
		ok   bool
	}{
		{"getxattr", getxattr(2, 3, 4, Attribute), message{opcode: opGetxattr, unique: 2, node: 1, pid: 3, size: 4, ours: true}, true},
		{"another name", getxattr(2, 3, 4, "user.x"), message{opcode: opGetxattr, unique: 2, node: 1, pid: 3, size: 4}, true},
		{"a name with a NUL", getxattr(2, 3, 4, Attribute+"\x00x"), message{opcode: opGetxattr, unique: 2, node: 1, pid: 3, size: 4, ours: true}, true},
		{"read", request(opRead, 2, 3, words(0, 0, 5, 0, 6)), message{opcode: opRead, unique: 2, node: 1, pid: 3, offset: 5, size: 6}, true},
		{"interrupt", request(opInterrupt, 3, 0, words(2, 0)), message{opcode: opInterrupt, unique: 3, node: 1, target: 2}, true},
		{"init", request(opInit, 2, 0, words(7, 45, 0, 0)), message{opcode: opInit, unique: 2, node: 1, major: 7, minor: 45}, true},
		{"unknown", request(999, 2, 3, nil), message{opcode: 999, unique: 2, node: 1, pid: 3}, true},
		{"nothing", nil, message{}, false},
		{"half a header", make([]byte, inHeaderBytes-1), message{}, false},
		{"another length", short, message{opcode: opGetxattr, unique: 2, node: 1, pid: 3}, false},
		{"getxattr without a name", request(opGetxattr, 2, 3, words(4, 0)), message{opcode: opGetxattr, unique: 2, node: 1, pid: 3}, false},
		{"a name without its end", request(opGetxattr, 2, 3, append(words(4, 0), 'u')), message{opcode: opGetxattr, unique: 2, node: 1, pid: 3}, false},
		{"read without a size", request(opRead, 2, 3, words(0, 0, 5, 0)), message{opcode: opRead, unique: 2, node: 1, pid: 3}, false},
		{"interrupt of nothing", request(opInterrupt, 2, 3, words(1)), message{opcode: opInterrupt, unique: 2, node: 1, pid: 3}, false},
		{"init without flags", request(opInit, 2, 3, words(7, 31)), message{opcode: opInit, unique: 2, node: 1, pid: 3}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got message
			if err := decode(tc.in, &got); (err == nil) != tc.ok || got != tc.want {
				t.Errorf("got %+v, %v, want %+v, ok %t", got, err, tc.want, tc.ok)
			}
		})
	}
}

func TestInit(t *testing.T) {
	for _, tc := range []struct {
		major, minor uint32
		want         uint32 // the minor in the reply, 0 for a refusal
	}{
		{7, 0, 0}, {7, 22, 0}, {7, 23, 23}, {7, 30, 30}, {7, 31, 31}, {7, 32, 31}, {7, 99, 31},
		{6, 99, 0}, {0, 0, 0}, {8, 0, 31}, {9, 99, 31},
	} {
		b := make([]byte, 128)
		n, err := putInit(b, &message{unique: 4, major: tc.major, minor: tc.minor})
		le := binary.NativeEndian
		if le.Uint32(b) != uint32(n) || le.Uint64(b[8:]) != 4 {
			t.Errorf("FUSE %d.%d: header % x for %d bytes", tc.major, tc.minor, b[:outHeaderBytes], n)
		}
		errno := unix.Errno(-int32(le.Uint32(b[4:])))
		if tc.want == 0 {
			if err == nil || errno != unix.EPROTO || n != outHeaderBytes {
				t.Errorf("FUSE %d.%d: %v, %d bytes with %v, want a refusal with EPROTO", tc.major, tc.minor, err, n, errno)
			}
			continue
		}
		if got := le.Uint32(b[20:]); err != nil || errno != 0 || got != tc.want || le.Uint32(b[16:]) != 7 {
			t.Errorf("FUSE %d.%d: %v, %v, replied %d.%d, want 7.%d", tc.major, tc.minor, err, errno, le.Uint32(b[16:]), got, tc.want)
		}
	}
}

// offline returns a gate that talks to a socket instead of FUSE, and its other end.
func offline(t testing.TB, slots Slots) (g *Gate, kernel int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pair[0]); unix.Close(pair[1]) })
	g = &Gate{slots: slots, logger: slog.New(slog.DiscardHandler), image: []byte("the image"), done: make(chan struct{})}
	g.devices = []device{{fd: pair[0], buf: make([]byte, readBufferBytes), out: make([]byte, outHeaderBytes+readBufferBytes)}}
	g.now.Store(monotonic())
	return g, pair[1]
}

// replies returns the errnos of what was replied, by unique.
func replies(t testing.TB, kernel int) map[uint64]unix.Errno {
	t.Helper()
	out := map[uint64]unix.Errno{}
	b := make([]byte, 2*readBufferBytes)
	for {
		n, err := unix.Read(kernel, b)
		if err != nil {
			return out
		}
		le := binary.NativeEndian
		if n < outHeaderBytes || int(le.Uint32(b)) != n {
			t.Fatalf("a reply of %d bytes: % x", n, b[:min(n, 64)])
		}
		unique := le.Uint64(b[8:])
		if _, ok := out[unique]; ok {
			t.Fatalf("two replies to request %d", unique)
		}
		out[unique] = unix.Errno(-int32(le.Uint32(b[4:])))
	}
}

// FuzzHandle gives the server a request of any bytes: it neither panics, nor replies
// with what the kernel would not take, nor replies twice.
func FuzzHandle(f *testing.F) {
	f.Add(getxattr(2, 3, 4, Attribute))
	f.Add(getxattr(2, 3, 0, "security.capability"))
	f.Add(request(opRead, 2, 3, words(0, 0, 5, 0, 6)))
	f.Add(request(opRead, 2, 3, words(0, 0, 0xffffffff, 0xffffffff, 0xffffffff)))
	f.Add(request(opInterrupt, 3, 0, words(2, 0)))
	f.Add(request(opInit, 2, 0, words(7, 45, 0, 0)))
	for _, opcode := range []uint32{opForget, opGetattr, opOpen, opDestroy, opBatchForget, 25, 4096} {
		f.Add(request(opcode, 2, 3, nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		b = b[:min(len(b), readBufferBytes)]
		g, kernel := offline(t, anyone{})
		var m message
		copy(g.heart().buf, b)
		sleeper := g.heart().handle(g, len(b), &m)
		got := replies(t, kernel)
		slot, tid, unique, ok := sleeperOf(b)
		if ok && (!m.ours || m.node != rootID || uint32(slot)+1 != m.size || tid != m.pid || unique != m.unique) {
			t.Fatalf("a sleeper %d on slot %d, request %d, is %+v", tid, slot, unique, m)
		}
		if target := interruptOf(b); target != 0 && (m.opcode != opInterrupt || target != m.target) {
			t.Fatalf("an interrupt of request %d is %+v", target, m)
		}
		if sleeper {
			if len(got) != 0 || m.size-1 >= abi.Slots {
				t.Fatalf("a sleeper on size %d has the replies %v", m.size, got)
			}
			g.Release(int(m.size - 1))
			if got = replies(t, kernel); m.unique != 0 && len(got) != 1 {
				t.Fatalf("a released sleeper has the replies %v", got)
			}
		}
		for unique, errno := range got {
			if unique != m.unique || errno >= 512 {
				t.Fatalf("replied %v to %d, the request was %d", errno, unique, m.unique)
			}
			if m.opcode == opGetxattr && errno == unix.ENOSYS {
				t.Fatal("replied ENOSYS to a getxattr: the kernel would never ask again")
			}
		}
	})
}

func TestHandleMalformed(t *testing.T) {
	g, kernel := offline(t, anyone{})
	unix.Write(kernel, []byte("short"))
	unix.Write(kernel, request(opGetxattr, 6, 3, nil))
	unix.Write(kernel, getxattr(8, 3, 4, Attribute))
	if n := g.heart().serve(g, maxServe); n != 1 {
		t.Errorf("%d sleepers, want the one behind the malformed requests", n)
	}
	if got := replies(t, kernel); len(got) != 1 || got[6] != unix.EIO || g.Stats().Malformed != 2 {
		t.Errorf("replies %v, counters %+v, want EIO for 6 and two malformed", got, g.Stats())
	}
	if errors.Is(decode(nil, new(message)), nil) {
		t.Error("nothing is a request")
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Numbers of io_uring's operations.
const (
	uringNop      = 0
	uringAccept   = 13
	uringConnect  = 16
	uringOpenat   = 18
	uringSend     = 26
	uringRenameat = 35
	uringUnlinkat = 36
	uringMkdirat  = 37
	uringCmd      = 46
	uringBind     = 56
	uringListen   = 57
)

const atCWD = unix.AT_FDCWD

var ringVerbs = map[string]verb{
	"setup": func(a []string) error {
		r, err := setupURing(uint32(atoi(a[0])))
		if err == nil {
			r.close()
		}
		return err
	},
	"ring-open": func(a []string) error {
		return byRing(a, sqe{opcode: uringOpenat, fd: atCWD, addr: 1, opFlags: unix.O_RDWR | unix.O_CLOEXEC})
	},
	"ring-mkdir":  func(a []string) error { return byRing(a, sqe{opcode: uringMkdirat, fd: atCWD, addr: 1, len: 0o751}) },
	"ring-unlink": func(a []string) error { return byRing(a, sqe{opcode: uringUnlinkat, fd: atCWD, addr: 1}) },
	"ring-rmdir": func(a []string) error {
		return byRing(a, sqe{opcode: uringUnlinkat, fd: atCWD, addr: 1, opFlags: unix.AT_REMOVEDIR})
	},
	"ring-rename": func(a []string) error {
		cwd := int32(atCWD)
		return byRing(a, sqe{opcode: uringRenameat, fd: atCWD, addr: 1, off: 2, len: uint32(cwd)})
	},
	"ring-connect": func(a []string) error {
		return withSocket([]string{"dgram", "0.0.0.0:0"}, func(fd int, _ unix.Sockaddr) error {
			return byRing(a[:1], sqe{opcode: uringConnect, fd: int32(fd), off: 16}, loopback(atoi(a[1])))
		})
	},
	"ring-connect-unix": func(a []string) error {
		return withSocket([]string{"stream", "@"}, func(fd int, _ unix.Sockaddr) error {
			to := append([]byte{unix.AF_UNIX, 0}, a[1]+"\x00"...)
			return byRing(a[:1], sqe{opcode: uringConnect, fd: int32(fd), off: uint64(len(to))}, to)
		})
	},
	"ring-send": func(a []string) error {
		return withSocket([]string{"dgram", "0.0.0.0:0"}, func(fd int, _ unix.Sockaddr) error {
			to, text := loopback(atoi(a[1])), []byte("abc")
			return byRing(a[:1], sqe{opcode: uringSend, fd: int32(fd), len: 3, off: address(to), addrLen: 16}, text, to)
		})
	},
	"ring-bind": func(a []string) error {
		return withSocket([]string{"stream", "0.0.0.0:0"}, func(fd int, _ unix.Sockaddr) error {
			return byRing(a[:1], sqe{opcode: uringBind, fd: int32(fd), off: 16}, loopback(atoi(a[1])))
		})
	},
	"ring-listen": func(a []string) error {
		return withSocket([]string{"stream", "127.0.0.1:" + a[1]}, func(fd int, at unix.Sockaddr) error {
			if err := unix.Bind(fd, at); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return byRing(a[:1], sqe{opcode: uringListen, fd: int32(fd), len: 5})
		})
	},
	"ring-accept": func(a []string) error {
		at := []string{"stream", "127.0.0.1:" + a[1]}
		return withSocket(at, func(fd int, to unix.Sockaddr) error {
			if err := errors.Join(unix.Bind(fd, to), unix.Listen(fd, 5)); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return withSocket(at, func(client int, _ unix.Sockaddr) error {
				if err := unix.Connect(client, to); err != nil {
					return fmt.Errorf("before: %v", err)
				}
				return byRing(a[:1], sqe{opcode: uringAccept, fd: int32(fd)})
			})
		})
	},
	"ring-cmd": func(a []string) error {
		return withFile(a[1], unix.O_RDWR, func(fd int) error {
			return byRing(a[:1], sqe{opcode: uringCmd, fd: int32(fd), off: 0x1234})
		})
	},
	// A request with the credentials of a thread that was somebody else meanwhile.
	"ring-creds": func(a []string) error {
		return onThread(func() error {
			r, err := setupURing(0)
			if err != nil {
				return err
			}
			defer r.close()
			_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 0, 4, 0)
			id, err := r.personality()
			_, _, back := unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
			if err := errors.Join(sysno(0, 0, errno), err, sysno(0, 0, back)); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return r.submit(sqe{opcode: uringNop, personality: id})
		})
	},
}

// byRing does one request as a[0] says: inline, async (by a worker of io_uring's) or by a
// polling thread. The texts behind are pointed to by the entry's addr, or where it says 1
// and 2 by addr and off.
func byRing(a []string, e sqe, texts ...[]byte) error {
	var flags uint32
	switch a[0] {
	case "async":
		e.flags |= uringAsync
	case "sqpoll":
		flags = uringSQPoll
	}
	for _, text := range a[1:] {
		texts = append(texts, append([]byte(text), 0))
	}
	if len(texts) > 0 {
		e.addr = address(texts[0])
	}
	if e.off == 2 {
		e.off = address(texts[1])
	}
	r, err := setupURing(flags)
	if err != nil {
		return fmt.Errorf("before: %v", err)
	}
	defer r.close()
	err = r.submit(e)
	runtime.KeepAlive(texts)
	return err
}

// loopback is the struct sockaddr_in of a port.
func loopback(port int) []byte {
	return []byte{unix.AF_INET, 0, byte(port >> 8), byte(port), 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
}

func TestLSMEventsURing(t *testing.T) {
	s := newStage(t)
	null := func(t *testing.T, dir string) {
		if err := unix.Mknod(dir+"/null", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, []eventCase{
		{event: abi.EventURingAllowed, do: "setup 0", bySubject: true, restarts: true},
		{event: abi.EventURingSQPoll, do: "setup 2", bySubject: true, restarts: true},
		{event: abi.EventURingCmd, do: "ring-cmd inline $D/null", before: null, after: func(t *testing.T, dir string) { os.Remove(dir + "/null") }, path: "$D/null",
			args: map[string]uint64{"command": 0x1234}},
		{event: abi.EventURingOverrideCreds, do: "ring-creds", args: map[string]uint64{"uid": 0, "euid": 4}, bySubject: true},
	})
}

// What io_uring does for a task is asked about like the task's own system calls, by
// whichever thread it is done. Where those would be unwound nothing waits.
func TestLSMEventsByURing(t *testing.T) {
	s := newStage(t)
	const loop, tcp, udp = 0xffff7f000001, unix.IPPROTO_TCP, unix.IPPROTO_UDP
	file, noFile := withNew("file", "new")
	gone := func(t *testing.T, dir string) { os.RemoveAll(dir + "/new") }
	made := func(t *testing.T, dir string) { mustMkdir(t, dir+"/new") }
	var fds []int
	serve := func(t *testing.T, dir string) { serveUnix(t, &fds, unix.SOCK_STREAM, dir+"/new") }
	unserve := func(t *testing.T, dir string) {
		for _, fd := range fds {
			unix.Close(fd)
		}
		fds = nil
		gone(t, dir)
	}
	var all []eventCase
	binds := s.inside.do("ring-listen", "inline 7106") != "EINVAL" // since 6.11
	t.Logf("bind and listen by io_uring: %t", binds)
	for _, how := range []string{"inline", "async", "sqpoll"} {
		cases := []eventCase{
			{event: abi.EventOpen, do: "ring-open %s $D/file", before: file, after: noFile, path: "$D/file", access: abi.AccessRead | abi.AccessWrite},
			{event: abi.EventMkdir, do: "ring-mkdir %s $D/new", after: gone, path: "$D/new", args: map[string]uint64{"mode": 0o751}},
			{event: abi.EventUnlink, do: "ring-unlink %s $D/file", before: file, after: noFile, path: "$D/file"},
			{event: abi.EventRmdir, do: "ring-rmdir %s $D/new", before: made, after: gone, path: "$D/new"},
			{event: abi.EventRename, do: "ring-rename %s $D/file $D/new", before: file, after: noFile, path: "$D/file", detail: "$D/new", args: map[string]uint64{"flags": 0}},
			{event: abi.EventConnect, do: "ring-connect %s 7101", args: inet(2, 2, udp, 7101, 0, loop), bySubject: true},
			{event: abi.EventUnixConnect, do: "ring-connect-unix %s $D/new", before: serve, after: unserve, path: "$D/new"},
			{event: abi.EventSendmsg, do: "ring-send %s 7102", args: inet(2, 2, udp, 7102, 0, loop, "size", 3), bySubject: true},
			{event: abi.EventAccept, do: "ring-accept %s 7103", args: inet(2, 1, tcp, 7103, 0, loop), bySubject: true},
			{event: abi.EventBind, do: "ring-bind %s 7104", args: inet(2, 1, tcp, 7104, 0, loop), bySubject: true},
			{event: abi.EventListen, do: "ring-listen %s 7105", args: inet(2, 1, tcp, 7105, 0, loop, "backlog", 5), bySubject: true},
		}
		for _, tc := range cases {
			if (tc.event == abi.EventBind || tc.event == abi.EventListen) && !binds {
				continue
			}
			tc.brief = how != "async" && !s.unwinds // the same as by system call there
			tc.name, tc.do = how, strings.Replace(tc.do, "%s", how, 1)
			all = append(all, tc)
		}
	}
	s.run(t, all)
}

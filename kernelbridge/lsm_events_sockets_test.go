// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var socketVerbs = map[string]verb{
	"socket": func(a []string) error {
		fd, err := unix.Socket(atoi(a[0]), atoi(a[1])|unix.SOCK_CLOEXEC, atoi(a[2]))
		if err != nil {
			return err
		}
		return unix.Close(fd)
	},
	"bind": func(a []string) error {
		return withSocket(a, func(fd int, to unix.Sockaddr) error { return unix.Bind(fd, to) })
	},
	// An address without a family: IPv4, any address.
	"bind-unspec": func(a []string) error {
		return withSocket([]string{"stream", "0.0.0.0:0"}, func(fd int, _ unix.Sockaddr) error {
			return rawBind(fd, []byte{0, 0, byte(atoi(a[0]) >> 8), byte(atoi(a[0])), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
		})
	},
	"connect": func(a []string) error {
		return withSocket(a, func(fd int, to unix.Sockaddr) error { return unix.Connect(fd, to) })
	},
	"listen": func(a []string) error {
		return withSocket(a, func(fd int, at unix.Sockaddr) error {
			if err := unix.Bind(fd, at); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return unix.Listen(fd, 5)
		})
	},
	"accept": func(a []string) error {
		return withSocket(a, func(fd int, at unix.Sockaddr) error {
			if err := errors.Join(unix.Bind(fd, at), unix.Listen(fd, 5)); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			return withSocket(a, func(client int, _ unix.Sockaddr) error {
				if err := unix.Connect(client, at); err != nil {
					return fmt.Errorf("before: %v", err)
				}
				got, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
				if err != nil {
					return err
				}
				return unix.Close(got)
			})
		})
	},
	"sendto": func(a []string) error {
		return withSocket(a, func(fd int, to unix.Sockaddr) error { return unix.Sendto(fd, []byte("abc"), 0, to) })
	},
	"connect-write": func(a []string) error { // the first of the two may be asked about too
		return withSocket(a, func(fd int, to unix.Sockaddr) error {
			if err := unix.Connect(fd, to); err != nil {
				return err
			}
			_, err := unix.Write(fd, []byte("abc"))
			return err
		})
	},
}

// withSocket makes a socket of kind a[0] for the address a[1]: host:port, @name or a path.
func withSocket(a []string, f func(fd int, to unix.Sockaddr) error) error {
	kind := map[string]int{"stream": unix.SOCK_STREAM, "dgram": unix.SOCK_DGRAM}[a[0]]
	family, to := unix.AF_UNIX, unix.Sockaddr(&unix.SockaddrUnix{Name: a[1]})
	if ap, err := netip.ParseAddrPort(a[1]); err == nil {
		if ap.Addr().Is4() {
			family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
		} else {
			family, to = unix.AF_INET6, &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
		}
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("before: %v", err)
	}
	// A closed connection keeps its port for a while.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("before: %v", err)
	}
	return errors.Join(f(fd, to), unix.Close(fd))
}

// inet are the arguments of a question about an address.
func inet(family, kind, proto, port, high, low uint64, more ...any) map[string]uint64 {
	m := map[string]uint64{"family": family, "type": kind, "protocol": proto, "port": port, "addr_high": high, "addr_low": low}
	for i := 0; i < len(more); i += 2 {
		m[more[i].(string)] = uint64(more[i+1].(int))
	}
	return m
}

func TestLSMEventsSockets(t *testing.T) {
	s := newStage(t)
	const loop = 0xffff7f000001
	const tcp, udp = unix.IPPROTO_TCP, unix.IPPROTO_UDP
	gone := func(t *testing.T, dir string) { os.Remove(dir + "/sock") }
	unixArgs := func(kind uint64, more ...any) map[string]uint64 { return inet(unix.AF_UNIX, kind, 0, 0, 0, 0, more...) }
	s.run(t, []eventCase{
		{event: abi.EventSocket, do: "socket 2 1 6", args: map[string]uint64{"family": 2, "type": 1, "protocol": 6}, bySubject: true},
		{name: "netlink", event: abi.EventSocket, do: "socket 16 3 0", args: map[string]uint64{"family": 16, "type": 3, "protocol": 0}, bySubject: true},

		{event: abi.EventBind, do: "bind stream 127.0.0.1:7001", args: inet(2, 1, tcp, 7001, 0, loop), bySubject: true},
		{name: "IPv6", event: abi.EventBind, do: "bind dgram [::1]:7002", args: inet(10, 2, udp, 7002, 0, 1), bySubject: true},
		{name: "without a family", event: abi.EventBind, do: "bind-unspec 7003", args: inet(2, 1, tcp, 7003, 0, 0xffff00000000), bySubject: true},
		{name: "unix", event: abi.EventBind, do: "bind stream $D/sock", after: gone, path: "$D/sock", args: unixArgs(1), bySubject: true},
		{name: "abstract", event: abi.EventBind, do: "bind stream @arbiter", path: "@arbiter", args: unixArgs(1), bySubject: true},

		{event: abi.EventConnect, do: "connect stream 127.0.0.1:7004", args: inet(2, 1, tcp, 7004, 0, loop), bySubject: true, allowed: "ECONNREFUSED"},
		{name: "IPv6", event: abi.EventConnect, do: "connect stream [2001:db8:1:2:3:4:5:6]:443", args: inet(10, 1, tcp, 443, 0x20010db800010002, 0x0003000400050006), bySubject: true, allowed: "ENETUNREACH"},
		{name: "IPv4 on IPv6", event: abi.EventConnect, do: "connect dgram [::ffff:127.0.0.1]:7004", args: inet(10, 2, udp, 7004, 0, loop), bySubject: true},
		{name: "unix", event: abi.EventConnect, do: "connect stream $D/sock", path: "$D/sock", args: unixArgs(1), bySubject: true, allowed: "ENOENT"},
		{name: "relative", event: abi.EventConnect, do: "connect dgram no/where", path: "no/where", args: unixArgs(2), bySubject: true, allowed: "ENOENT"},
		{name: "abstract", event: abi.EventConnect, do: "connect dgram @nobody", path: "@nobody", args: unixArgs(2), bySubject: true, allowed: "ECONNREFUSED"},

		{event: abi.EventListen, do: "listen stream 127.0.0.1:7005", args: inet(2, 1, tcp, 7005, 0, loop, "backlog", 5), bySubject: true},
		{name: "IPv6", event: abi.EventListen, do: "listen stream [::1]:7005", args: inet(10, 1, tcp, 7005, 0, 1, "backlog", 5), bySubject: true},
		{name: "unix", event: abi.EventListen, do: "listen stream $D/sock", after: gone, path: "$D/sock", args: unixArgs(1, "backlog", 5), bySubject: true},
		{name: "abstract", event: abi.EventListen, do: "listen stream @arbiter", path: "@arbiter", args: unixArgs(1, "backlog", 5), bySubject: true},

		{event: abi.EventAccept, do: "accept stream 127.0.0.1:7006", args: inet(2, 1, tcp, 7006, 0, loop), bySubject: true},
		{name: "unix", event: abi.EventAccept, do: "accept stream @arbiter", path: "@arbiter", args: unixArgs(1), bySubject: true},

		{event: abi.EventSendmsg, do: "sendto dgram 127.0.0.1:7007", args: inet(2, 2, udp, 7007, 0, loop, "size", 3), bySubject: true},
		{name: "IPv6", event: abi.EventSendmsg, do: "sendto dgram [::1]:7007", args: inet(10, 2, udp, 7007, 0, 1, "size", 3), bySubject: true},
		{name: "unix", event: abi.EventSendmsg, do: "sendto dgram $D/sock", path: "$D/sock", args: unixArgs(2, "size", 3), bySubject: true, allowed: "ENOENT"},
	})
}

// What two unix sockets are asked for: there is a server of the test's at the other end.
func TestLSMEventsUnixConnect(t *testing.T) {
	s := newStage(t)
	var fds []int
	serve := func(kind int, name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if name[0] == '/' {
				name := dir + name
				serveUnix(t, &fds, kind, name)
				return
			}
			serveUnix(t, &fds, kind, name)
		}
	}
	gone := func(t *testing.T, dir string) {
		for _, fd := range fds {
			unix.Close(fd)
		}
		fds = nil
		os.Remove(dir + "/sock")
	}
	s.run(t, []eventCase{
		{event: abi.EventUnixConnect, do: "connect stream $D/sock", before: serve(unix.SOCK_STREAM, "/sock"), after: gone, path: "$D/sock", restarts: true},
		{name: "abstract", event: abi.EventUnixConnect, do: "connect stream @server", before: serve(unix.SOCK_STREAM, "@server"), after: gone, bySubject: true, restarts: true},
		{name: "of datagrams", event: abi.EventUnixConnect, do: "connect dgram $D/sock", before: serve(unix.SOCK_DGRAM, "/sock"), after: gone, path: "$D/sock", restarts: true},
		{name: "one datagram", event: abi.EventUnixConnect, do: "sendto dgram $D/sock", before: serve(unix.SOCK_DGRAM, "/sock"), after: gone, path: "$D/sock", restarts: true},
	})

	// A connected one is asked about again for each datagram.
	s.about(t, abi.EventUnixConnect)
	s.w.errno.Store(0)
	tc := eventCase{event: abi.EventUnixConnect, do: "connect-write dgram $D/sock", before: serve(unix.SOCK_DGRAM, "/sock"), after: gone}
	if got, asked := s.prompt(t, &tc, s.inside, s.tree); got != "ok" || len(asked) != 2 {
		t.Errorf("connecting and writing: %s, asked %d times, want ok, 2", got, len(asked))
	}
}

func serveUnix(t *testing.T, fds *[]int, kind int, name string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	*fds = append(*fds, fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
		t.Fatal(err)
	}
	if kind == unix.SOCK_STREAM {
		if err := unix.Listen(fd, 5); err != nil {
			t.Fatal(err)
		}
	}
}

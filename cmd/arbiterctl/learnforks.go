// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// process names a process for ever: its id is given again, with another start.
type process struct {
	tgid  uint32
	start uint64 // nanoseconds since the boot; 0: not known
}

// forks knows which processes descend from some, by what the kernel tells of every fork
// of the machine. Whether one that runs no more was among them can only be known so: its
// directory in /proc has gone by the time that its events come.
type forks struct {
	socket *os.File
	ended  chan struct{}

	mu    sync.Mutex
	queue []fork
	lost  bool // the kernel told more than was read in time
	most  int  // bound of queue and of what is kept

	roots map[uint32]bool
	known map[uint32][]birth
	kept  int
	shift int64  // of the boot clock to that of the kernel's messages
	began uint64 // by the boot clock: who was there before is told of by nobody
}

// fork is one message: parent made child, at a time of the boot clock.
type fork struct {
	parent, child uint32
	at            uint64
}

// birth is one process with some id.
type birth struct {
	at   uint64
	ours bool
}

const (
	// forksKept bounds the memory: some 100 MB.
	forksKept = 1 << 20
	// forkBuffer is of the socket; a message has about 100 bytes there.
	forkBuffer = 8 << 20
	// forkAnswer is how long the kernel takes to say that it will tell.
	forkAnswer = time.Second
)

// Of linux/cn_proc.h and linux/connector.h.
const (
	cnIdxProc, cnValProc = 1, 1
	procListen           = 1
	procEventNone        = 0
	procEventFork        = 1
	connectorHeader      = unix.SizeofNlMsghdr + 20
)

// watchForks begins to follow forks. It needs CAP_NET_ADMIN in the first pid namespace.
func watchForks() (*forks, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_CONNECTOR)
	if err != nil {
		return nil, fmt.Errorf("following forks: %w", err)
	}
	f := newForks(os.NewFile(uintptr(fd), "forks"), forksKept)
	if err := f.subscribe(fd); err != nil {
		f.socket.Close()
		return nil, fmt.Errorf("following forks: %w", err)
	}
	go f.read()
	return f, nil
}

func newForks(socket *os.File, most int) *forks {
	var boot, mono unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) // neither fails on Linux
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot)
	return &forks{socket: socket, ended: make(chan struct{}), most: most, roots: map[uint32]bool{}, known: map[uint32][]birth{}, shift: boot.Nano() - mono.Nano(), began: uint64(boot.Nano())}
}

// startTick is how exactly the start of a process is known: fanotify has it from /proc.
const startTick = uint64(10 * time.Millisecond)

// subscribe asks for the messages and waits for the first one, which says yes.
func (f *forks) subscribe(fd int) error {
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: cnIdxProc}); err != nil {
		return err
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, forkBuffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, forkBuffer) // as much as may be
	}
	const size = connectorHeader + 4
	var b [size]byte
	le := binary.NativeEndian
	le.PutUint32(b[0:], size)
	le.PutUint16(b[4:], unix.NLMSG_DONE)
	le.PutUint32(b[16:], cnIdxProc)
	le.PutUint32(b[20:], cnValProc)
	le.PutUint16(b[32:], 4)
	le.PutUint32(b[connectorHeader:], procListen)
	if err := unix.Sendto(fd, b[:], 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	if err := f.socket.SetReadDeadline(time.Now().Add(forkAnswer)); err != nil {
		return err
	}
	answer := make([]byte, os.Getpagesize())
	n, err := f.socket.Read(answer)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("the kernel does not answer: it tells the first pid namespace alone")
	}
	if err != nil {
		return err
	}
	if n < connectorHeader+20 {
		return errors.New("the kernel's answer is too short")
	}
	if what, errno := le.Uint32(answer[connectorHeader:]), le.Uint32(answer[connectorHeader+16:]); what == procEventNone && errno != 0 {
		return unix.Errno(errno)
	}
	f.message(answer[:n])
	return f.socket.SetReadDeadline(time.Time{})
}

// read takes messages until close.
func (f *forks) read() {
	defer close(f.ended)
	b := make([]byte, os.Getpagesize())
	for {
		n, err := f.socket.Read(b)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.mu.Lock()
			f.lost = true
			f.mu.Unlock()
		case err != nil:
			return
		default:
			f.message(b[:n])
		}
	}
}

// message reads one message; of a kind that is of no use, or cut off, it is left out.
func (f *forks) message(b []byte) {
	le := binary.NativeEndian
	const size = connectorHeader + 16 + 16
	if len(b) < size || le.Uint32(b[16:]) != cnIdxProc || le.Uint32(b[connectorHeader:]) != procEventFork {
		return
	}
	at := le.Uint64(b[connectorHeader+8:])
	data := b[connectorHeader+16:]
	parent, child, leader := le.Uint32(data[4:]), le.Uint32(data[8:]), le.Uint32(data[12:])
	if child != leader {
		return // a thread
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue)+f.kept >= f.most {
		f.lost = true
		return
	}
	f.queue = append(f.queue, fork{parent, child, uint64(int64(at) + f.shift)})
}

// root makes a process one that others descend from. Not after the first call of ours.
func (f *forks) root(pid int) { f.roots[uint32(pid)] = true }

// ours reports whether a process is a root or descends from one; known is false when
// nothing has been told of it, which may still come.
func (f *forks) ours(p process) (ours, known bool) {
	f.mu.Lock()
	queue := f.queue
	f.queue = nil
	f.kept += len(queue)
	f.mu.Unlock()
	for _, q := range queue {
		parent := f.known[q.parent]
		ours := f.roots[q.child] && len(f.known[q.child]) == 0
		if n := len(parent); n > 0 {
			ours = ours || parent[n-1].ours
		} else {
			ours = ours || f.roots[q.parent]
		}
		f.known[q.child] = append(f.known[q.child], birth{q.at, ours})
	}
	births := f.known[p.tgid]
	// The kernel tells of a fork right behind the start of the child, so the first that is
	// not before the start is the one.
	i := slices.IndexFunc(births, func(b birth) bool { return b.at >= p.start })
	switch {
	case p.start == 0 && len(births) > 0:
		return births[len(births)-1].ours, true
	case i >= 0:
		return births[i].ours, true
	}
	older := p.start != 0 && p.start+startTick <= f.began
	root := f.roots[p.tgid] && len(births) == 0
	return root, root || older
}

// overrun reports whether some forks are not known.
func (f *forks) overrun() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// close ends it. It can be called twice.
func (f *forks) close() {
	f.socket.Close()
	<-f.ended
}

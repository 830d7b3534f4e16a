// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fanotifyScenario opens a file under a FAN_OPEN_PERM mark and allows it, no rule
// is looked at.
type fanotifyScenario struct {
	sameCPU bool
	// poll never blocks in read. On the requester's own CPU it yields between
	// two looks: spinning there would time the scheduler's slice.
	poll bool
}

func (s fanotifyScenario) Describe() Info {
	i := Info{ID: "fanotify-other", Mechanism: Fanotify, Responder: "other CPU, blocking read", Baseline: openBaselineID, Lean: true}
	switch {
	case s.sameCPU && s.poll:
		i.ID, i.Responder = "fanotify-same-poll", "same CPU, polling and yielding"
	case s.sameCPU:
		i.ID, i.Responder = "fanotify-same", "same CPU, blocking read"
	case s.poll:
		i.ID, i.Responder = "fanotify-other-poll", "other CPU, busy polling"
	}
	i.SameCPU = s.sameCPU
	return i
}

func (s fanotifyScenario) Open(at Place) (Session, error) {
	return openPair(at, func() (call, responder, error) {
		if err := scratchFile(); err != nil {
			return call{}, nil, err
		}
		r, err := openFanotify(s.poll, s.poll && s.sameCPU, unix.FAN_MARK_MOUNT, scratchDir)
		if err != nil {
			return call{}, nil, err
		}
		c, err := openatCall(unix.AT_FDCWD, scratchPath)
		return c, r, err
	})
}

// fanotifyResponder allows every open.
type fanotifyResponder struct {
	fd          int
	poll, yield bool
	self        int32 // this process
	own         bool  // an open of this process was answered
	buf         []byte
	response    unix.FanotifyResponse
}

// openFanotify marks the file or, with FAN_MARK_MOUNT, the mount at a path.
func openFanotify(poll, yield bool, mark uint, path string) (*fanotifyResponder, error) {
	const hint = "run as root on a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS"
	flags := uint(unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC)
	if poll {
		flags |= unix.FAN_NONBLOCK
	}
	fd, err := unix.FanotifyInit(flags, unix.O_RDONLY|unix.O_LARGEFILE|unix.O_CLOEXEC)
	if err != nil {
		return nil, refused("starting fanotify for permission events", hint, err)
	}
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD|mark, unix.FAN_OPEN_PERM, unix.AT_FDCWD, path); err != nil {
		unix.Close(fd)
		return nil, refused("marking "+path+" for FAN_OPEN_PERM", hint, err)
	}
	return &fanotifyResponder{fd: fd, poll: poll, yield: yield, self: int32(unix.Getpid()), buf: make([]byte, 4096)}, nil
}

func (r *fanotifyResponder) answer() (int, error) {
	n, errno := rawRead(r.fd, r.buf)
	for errno == unix.EAGAIN && r.poll {
		if r.yield {
			unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
		n, errno = rawRead(r.fd, r.buf)
	}
	if errno == unix.EINTR {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("reading a fanotify event: %w", errno)
	}
	answered := 0
	for b := r.buf[:n]; len(b) >= eventBytes; {
		e := fanotifyEvent(b)
		if int(e.Event_len) < eventBytes || int(e.Event_len) > len(b) || e.Fd < 0 {
			return answered, fmt.Errorf("reading a fanotify event: length %d of %d, descriptor %d", e.Event_len, len(b), e.Fd)
		}
		b = b[e.Event_len:]
		r.response = unix.FanotifyResponse{Fd: e.Fd, Response: unix.FAN_ALLOW}
		if errno := rawWriteResponse(r.fd, &r.response); errno != 0 {
			return answered, fmt.Errorf("answering a fanotify event: %w", errno)
		}
		unix.RawSyscall(unix.SYS_CLOSE, uintptr(e.Fd), 0, 0)
		r.own = r.own || e.Pid == r.self
		answered++
	}
	return answered, nil
}

func (r *fanotifyResponder) close() error { return unix.Close(r.fd) }

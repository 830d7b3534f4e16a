// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bytes"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// procBytes holds every /proc file that is read here: the longest is a cgroup
// list with a dozen v1 hierarchies.
const procBytes = 8192

const infoMask = unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS | unix.PIDFD_INFO_CGROUPID

var (
	selfPath = []byte{0}
	deleted  = []byte(" (deleted)")
)

// identify finds out which process the thread belongs to, if the kernel can say
// so without a file system (6.13).
func (s *Source) identify() {
	h, f := s.held, s.b.features
	if h.tid == 0 {
		return
	}
	if h.pidfd < 0 && f.threadFD {
		fd, err := unix.PidfdOpen(int(h.tid), unix.PIDFD_THREAD)
		if err == nil {
			h.pidfd = int32(fd)
		}
		h.gone = err == unix.ESRCH
	}
	if h.pidfd >= 0 && f.pidfdInfo {
		s.info.Mask = infoMask
		err := unix.IoctlPidfdInfo(int(h.pidfd), &s.info)
		h.gone = err == unix.ESRCH
		if err == nil && s.info.Mask&infoMask == infoMask {
			h.tgid, h.infoOK = s.info.Tgid, true
		}
	}
}

// exited reports whether the process or thread behind a pidfd has ended.
func exited(pidfd int, p *[1]unix.PollFd) bool {
	p[0] = unix.PollFd{Fd: int32(pidfd), Events: unix.POLLIN}
	n, err := unix.Poll(p[:], 0)
	return err == nil && n > 0
}

// threadGone reports whether the held thread has ended, as far as can be told.
func (s *Source) threadGone() bool {
	h := s.held
	return h.gone || h.pidfd >= 0 && exited(int(h.pidfd), &s.poll)
}

// twin reports whether this open is the second event of an exec that was
// allowed.
func (s *Source) twin() bool {
	return s.b.twins.mayHold(s.held.tid, s.held.since.Load()) && s.b.twins.consume(s.twinKey())
}

func (s *Source) twinKey() twinKey {
	k := twinKey{tid: s.held.tid}
	if s.held.pidfd >= 0 {
		// Before 6.9 pidfds share one inode: then this says nothing, but is equal.
		if statxat(int(s.held.pidfd), selfPath, unix.AT_EMPTY_PATH, &s.stat) == 0 {
			k.thread = s.stat.Ino
		}
		s.held.statOK = false
	}
	if s.object() {
		k.dev, k.ino = dev(&s.stat), s.stat.Ino
	}
	return k
}

// object makes stat be about the held file. AT_STATX_DONT_SYNC: no question goes
// to a file server, which might be waiting for us.
func (s *Source) object() bool {
	if !s.held.statOK {
		s.held.statOK = statxat(int(s.held.fd), selfPath, unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, &s.stat) == 0
	}
	return s.held.statOK
}

// dev returns the device number as the kernel packs it (s_dev), which is what
// the other backend reports.
func dev(st *unix.Statx_t) uint64 { return uint64(st.Dev_major)<<20 | uint64(st.Dev_minor) }

// path puts the object's path into r; false when it is not known.
func (s *Source) path(r *abi.Request) bool {
	name := append(strconv.AppendInt(s.name[:0], int64(s.held.fd), 10), 0)
	n, errno := readlinkat(s.b.fdDir, name, r.PathBuf[:])
	if errno != 0 || n >= abi.PathBytes || n == 0 || r.PathBuf[0] != '/' {
		// ENAMETOOLONG: the file is deeper than PATH_MAX. It is on a marked mount
		// or in a marked directory, so it is asked, and fails as facts_truncated.
		r.PathLen, r.Flags = 0, r.Flags|abi.FlagPathTruncated
		return false
	}
	if bytes.HasSuffix(r.PathBuf[:n], deleted) && s.unlinked(r.PathBuf[:n:n]) {
		n -= len(deleted)
	}
	r.PathLen = uint32(n)
	return true
}

// unlinked reports whether " (deleted)" at the end of path is the kernel's remark
// and not the file's name: a file of that very name would be found there.
func (s *Source) unlinked(path []byte) bool {
	if !s.object() {
		return true
	}
	if s.stat.Nlink == 0 {
		return true
	}
	// From the cache only, where a name is whose file is open: a file system may have
	// been mounted above it since, whose server never answers.
	fd, err := unix.Openat2(unix.AT_FDCWD, string(path), &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: resolveCached | unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		return true // also before 5.12
	}
	defer unix.Close(fd)
	var st unix.Statx_t
	errno := statxat(fd, selfPath, unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, &st)
	return errno != 0 || st.Ino != s.stat.Ino || dev(&st) != dev(&s.stat)
}

// gather fills in the rest of r. False when the event is not open any more.
func (s *Source) gather(r *abi.Request) bool {
	h := s.held
	want := s.b.settings.Load().want
	r.File = h.fd
	r.Ticket, r.PostedNS, r.Event = h.ticket, h.since.Load(), h.event
	r.TID, r.Generation = h.tid, 0
	r.Cgroup = [abi.CgroupLevels]uint64{}
	r.Dev, r.Ino, r.Size, r.Mode, r.OwnerUID, r.OwnerGID = 0, 0, abi.Size{}, 0, 0, 0
	sized := false
	if s.object() {
		r.Dev, r.Ino, r.Mode = dev(&s.stat), s.stat.Ino, uint32(s.stat.Mode)
		r.OwnerUID, r.OwnerGID = s.stat.Uid, s.stat.Gid
		if sized = s.stat.Mask&unix.STATX_SIZE != 0; sized {
			r.Size = abi.SizeOf(r.Mode, int64(s.stat.Size))
		}
	}
	if want&abi.FieldAttributes != 0 && !s.attributes(r) || want&abi.FieldSize != 0 && !sized {
		s.fail(abi.ReasonFactsTruncated)
		return false
	}
	if h.tid == 0 {
		// A task outside of our pid namespace: nothing about it can be known.
		s.fail(abi.ReasonUnsupportedCaller)
		return false
	}
	if h.gone || !s.credentials(r) {
		s.fail(abi.ReasonInterrupted)
		return false
	}
	s.task(r)

	// It has no detail, and an open no numbers: that much is known of them.
	r.Have = want&(abi.FieldExe|abi.FieldCgroup|abi.FieldAccess|abi.FieldAttributes) | abi.FieldPath | abi.FieldUID | abi.FieldGID | abi.FieldDetail | abi.FieldArgs
	if sized {
		r.Have |= abi.FieldSize
	}
	r.ExeLen = 0
	if want&abi.FieldExe == 0 || !s.exe(r) {
		r.Flags |= abi.FlagNoExe
	}
	if want&abi.FieldCgroup != 0 {
		s.cgroup(r)
	}
	r.Credentials = abi.Credentials{}
	if want&abi.FieldCredentials != 0 {
		if r.Credentials = s.credentialsOf(h.tid); r.Credentials.Known {
			r.Have |= abi.FieldCredentials
		}
	}
	switch {
	case h.event == abi.EventExec:
		r.Access, r.Have = abi.AccessExec, r.Have|abi.FieldAccess
		r.Have &^= abi.FieldArgs // nothing says which role the file has
	case want&abi.FieldAccess != 0:
		r.Access = s.access()
	default:
		r.Access = 0
	}
	return true
}

// credentials fills in tgid and ids.
func (s *Source) credentials(r *abi.Request) bool {
	if s.held.infoOK {
		// Fast path: the pidfd has said it all.
		r.TGID = s.info.Tgid
		r.UID, r.GID, r.EUID, r.EGID = s.info.Ruid, s.info.Rgid, s.info.Euid, s.info.Egid
		return true
	}
	text, ok := s.readProc(s.held.tid, "/status\x00")
	if !ok {
		return false
	}
	return parseStatus(text, r)
}

// task fills in comm and the start of the process. Both are for the record, no
// rule looks at them, so a file that cannot be read leaves them empty.
func (s *Source) task(r *abi.Request) {
	r.Comm, r.StartBoottime = [16]byte{}, 0
	text, ok := s.readProc(r.TID, "/stat\x00")
	if !ok {
		return
	}
	r.StartBoottime = parseStat(text, &r.Comm)
	if r.TID == r.TGID {
		return
	}
	if text, ok = s.readProc(r.TGID, "/stat\x00"); ok {
		r.StartBoottime = parseStat(text, nil)
	}
}

// exe fills in the path of the subject's executable.
func (s *Source) exe(r *abi.Request) bool {
	name := append(append(strconv.AppendUint(s.name[:0], uint64(s.held.tid), 10), "/exe"...), 0)
	n, errno := readlinkat(s.b.procDir, name, r.ExeBuf[:])
	if errno != 0 || n >= abi.PathBytes || n == 0 || r.ExeBuf[0] != '/' {
		return false
	}
	r.ExeLen = uint32(n)
	return true
}

// readProc reads the file of a thread into buf; name begins with a slash and ends
// with a NUL. What it returns is valid until the next call.
func (s *Source) readProc(id uint32, name string) ([]byte, bool) {
	path := append(strconv.AppendUint(s.name[:0], uint64(id), 10), name...)
	fd, errno := openat(s.b.procDir, path, unix.O_RDONLY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, false
	}
	defer unix.Close(fd)
	n := 0
	for n < len(s.buf) {
		m, err := unix.Read(fd, s.buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, false
		}
		if m == 0 {
			break
		}
		n += m
	}
	return s.buf[:n], true
}

// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// seccompScenario calls getppid with a magic argument under a filter that
// notifies, and has it continued.
type seccompScenario struct {
	sameCPU    bool
	syncWakeUp bool // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
	poll       bool // look with a zero timeout until there is one, never block
}

func (s seccompScenario) Describe() Info {
	i := Info{ID: "seccomp-other", Mechanism: Seccomp, Responder: "other CPU", Baseline: getppidBaselineID, Lean: true}
	if s.sameCPU {
		i.ID, i.Responder, i.SameCPU = "seccomp-same", "same CPU", true
	}
	if s.syncWakeUp {
		i.ID, i.Responder = i.ID+"-sync", i.Responder+", SYNC_WAKE_UP"
	}
	if s.poll {
		i.ID, i.Responder = i.ID+"-poll", i.Responder+", busy polling"
	}
	return i
}

func (s seccompScenario) Open(at Place) (Session, error) {
	return openPair(at, func() (call, responder, error) {
		fd, err := seccompListener()
		if err != nil {
			return call{}, nil, err
		}
		if s.syncWakeUp {
			if err := unix.IoctlSetInt(fd, seccompSetFlags, unix.SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP); err != nil {
				unix.Close(fd)
				return call{}, nil, refused("asking for SYNC_WAKE_UP", "needs Linux 6.6", err)
			}
		}
		return getppidCall(), &seccompResponder{fd: fd, poll: s.poll, look: unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}}, nil
	})
}

// seccompSetFlags is SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_IOW(4, __u64) of
// linux/seccomp.h: the same on every architecture with the generic ioctl layout.
const seccompSetFlags = 0x40082104

// askMagic is the argument that the filter looks for: getppid takes none, so no
// other call of this thread, not one of the Go runtime's either, is notified.
const askMagic = 0xa2b17e2

func getppidCall() call { return call{name: "getppid", trap: unix.SYS_GETPPID, a1: askMagic} }

// askFilter returns the filter that gives the call of getppidCall the action, and allows
// every other one.
func askFilter(action uint32) []unix.SockFilter {
	const (
		load      = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		ret       = unix.BPF_RET | unix.BPF_K
		offNR     = 0  // offsetof(struct seccomp_data, nr)
		offArg0   = 16 // low half of args[0], little endian
	)
	return []unix.SockFilter{
		{Code: load, K: offNR},
		{Code: jumpEqual, Jf: 3, K: unix.SYS_GETPPID},
		{Code: load, K: offArg0},
		{Code: jumpEqual, Jf: 1, K: askMagic},
		{Code: ret, K: action},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
}

// seccompListener puts the calling thread under the filter. The thread is locked
// for good, so the runtime clones no other thread from it.
func seccompListener() (int, error) {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, fmt.Errorf("setting no_new_privs: %w", err)
	}
	filter := askFilter(unix.SECCOMP_RET_USER_NOTIF)
	fd, errno := installFilter(filter, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	runtime.KeepAlive(filter)
	if errno == unix.EBUSY {
		return -1, &UnavailableError{"installing a seccomp listener", "this process already runs under one, start it outside the sandbox", errno}
	}
	if errno != 0 {
		return -1, refused("installing a seccomp listener", "needs Linux 5.5 with CONFIG_SECCOMP_FILTER, outside a sandbox that forbids seccomp(2)", errno)
	}
	return fd, nil
}

// seccompResponder lets every call continue.
type seccompResponder struct {
	fd    int
	poll  bool
	look  unix.PollFd
	notif seccompNotif
	resp  seccompResp
}

func (r *seccompResponder) answer() (int, error) {
	for r.poll {
		ready, errno := rawReady(&r.look)
		if errno != 0 && errno != unix.EINTR {
			return 0, fmt.Errorf("looking for a notification: %w", errno)
		}
		if ready {
			break
		}
	}
	r.notif = seccompNotif{} // the kernel refuses a dirty one
	errno := rawReceive(r.fd, &r.notif)
	if errno == unix.EINTR || errno == unix.ENOENT {
		return 0, nil
	}
	if errno != 0 {
		return 0, fmt.Errorf("receiving a notification: %w", errno)
	}
	r.resp = seccompResp{id: r.notif.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if errno := rawSend(r.fd, &r.resp); errno != 0 && errno != unix.ENOENT {
		return 0, fmt.Errorf("answering a notification: %w", errno)
	}
	return 1, nil
}

func (r *seccompResponder) close() error { return unix.Close(r.fd) }

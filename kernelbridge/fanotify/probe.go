// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const (
	// groupFlags: FAN_CLASS_CONTENT is the class with permission events.
	// FAN_UNLIMITED_QUEUE, because at the limit the kernel lets a permission
	// event through unasked, while an unlimited queue is bounded by itself: each
	// entry is one blocked thread. FAN_UNLIMITED_MARKS, because a directory that
	// got no mark is a hole; the price is one pinned inode (about 1 KiB) for each
	// directory.
	groupFlags = unix.FAN_CLASS_CONTENT | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK |
		unix.FAN_UNLIMITED_QUEUE | unix.FAN_UNLIMITED_MARKS

	// eventFlags open the descriptor of each event. The kernel really opens the
	// file with them inside our read(2): O_NONBLOCK keeps a FIFO, a leased file or
	// a modem line from blocking a worker there.
	eventFlags = unix.O_RDONLY | unix.O_LARGEFILE | unix.O_CLOEXEC | unix.O_NONBLOCK

	permMask = unix.FAN_OPEN_PERM | unix.FAN_OPEN_EXEC_PERM
)

// features says what the running kernel gives beyond the minimum, Linux 5.0.
type features struct {
	eventPidfd bool // events carry the pidfd of the thread
	threadFD   bool // pidfd_open(PIDFD_THREAD), 6.9
	pidfdInfo  bool // ioctl(PIDFD_GET_INFO), 6.13
}

// newGroup opens a fanotify group. It prefers one that reports thread ids and
// pidfds both; kernels up to 6.18 at least refuse the pair with EINVAL, and then
// thread ids are worth more: they tie the two events of an exec together, and a
// pidfd can be opened by hand.
func newGroup() (fd int, f features, err error) {
	fd, err = unix.FanotifyInit(groupFlags|unix.FAN_REPORT_TID|unix.FAN_REPORT_PIDFD, eventFlags)
	f.eventPidfd = err == nil
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.FanotifyInit(groupFlags|unix.FAN_REPORT_TID, eventFlags)
	}
	if err != nil {
		return -1, f, explainInit(err)
	}
	if pidfd, err := unix.PidfdOpen(unix.Gettid(), unix.PIDFD_THREAD); err == nil {
		f.threadFD = true
		info := unix.PidfdInfo{Mask: infoMask}
		f.pidfdInfo = unix.IoctlPidfdInfo(pidfd, &info) == nil && info.Mask&infoMask == infoMask
		unix.Close(pidfd)
	}
	return fd, f, nil
}

func explainInit(err error) error {
	e := &UnsupportedError{Err: err}
	switch {
	case errors.Is(err, unix.EPERM):
		e.Why = "fanotify_init says EPERM: this process lacks CAP_SYS_ADMIN in the initial user namespace"
		e.Hint = "run it as root outside of a container or user namespace, or give the unit AmbientCapabilities=CAP_SYS_ADMIN"
	case errors.Is(err, unix.ENOSYS):
		e.Why = "fanotify_init says ENOSYS: the kernel is built without CONFIG_FANOTIFY, or a seccomp filter hides the call"
		e.Hint = "use a kernel with CONFIG_FANOTIFY=y and CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y, or allow fanotify_init and fanotify_mark in the filter"
	case errors.Is(err, unix.EMFILE):
		e.Why = "fanotify_init says EMFILE: too many groups for this user, or too many open files"
		e.Hint = "raise fs.fanotify.max_user_groups (sysctl) or LimitNOFILE="
	case errors.Is(err, unix.EINVAL):
		e.Why = "fanotify_init says EINVAL: the kernel is older than Linux 5.0, or does not know one of the flags"
		e.Hint = "use Linux 5.0 or later"
	default:
		e.Why = fmt.Sprintf("fanotify_init says %v", err)
		e.Hint = "look into the kernel log"
	}
	return e
}

// Probe reports whether this process can use permission events on this kernel.
// If not, why says what is missing and hint the step that would change it. It
// marks nothing but a memory file of its own.
func Probe() (ok bool, why, hint string) {
	err := probe()
	var u *UnsupportedError
	switch {
	case err == nil:
		return true, "fanotify_init and fanotify_mark accept permission events", ""
	case errors.As(err, &u):
		return false, u.Why, u.Hint
	default:
		return false, "cannot tell: " + err.Error(), "run the probe again"
	}
}

func probe() error {
	fd, _, err := newGroup()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	file, err := unix.MemfdCreate("fanotify-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("creating a memory file to mark: %w", err)
	}
	defer unix.Close(file)
	if err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, permMask, file, ""); err != nil {
		return &UnsupportedError{Err: err,
			Why:  fmt.Sprintf("fanotify_mark says %v for permission events: the kernel is built without CONFIG_FANOTIFY_ACCESS_PERMISSIONS or older than Linux 5.0", err),
			Hint: "use a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y, 5.0 or later"}
	}
	return nil
}

// Unsupported says, one sentence each, what rules that consult these facts cannot
// rely on with this backend. Whoever pushes rules shows them, or refuses.
func Unsupported(want abi.Fields) []string {
	s := []string{errnoLimits}
	if want&abi.FieldAccess != 0 {
		s = append(s, accessLimits)
	}
	return s
}

const (
	accessLimits = "access: fanotify does not say what an open asks for; it is read from the system call of the held thread, " +
		"which is exact for open, openat, creat and open_by_handle_at, while openat2, io_uring and 32-bit programs count as read and write at once; " +
		"create is known only for O_CREAT with O_EXCL"
	errnoLimits = "errno: every refusal reads EPERM on fanotify, whatever errno the rule names"
)

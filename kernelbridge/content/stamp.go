// SPDX-License-Identifier: Apache-2.0

package content

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// stamp is what the kernel says of a file: as long as it is the same, the content is, for
// files that lasting is true of.
type stamp struct {
	dev, ino     uint64
	mount        uint64 // another one where the file system was mounted again, and perhaps changed before
	size         int64  // bytes
	ctime, mtime int64  // nanoseconds since 1970
	btime        int64  // an inode number that is used again has another one; 0 where it is not kept
}

const stampMask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_CTIME | unix.STATX_MTIME

// mountMask asks for the number of the mount, since 6.8 for one that is never used again; before,
// the next mount can have that of the last one.
const mountMask = unix.STATX_MNT_ID | unix.STATX_MNT_ID_UNIQUE

// stampOf returns the stamp of a regular file.
func stampOf(fd int) (stamp, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, stampMask|unix.STATX_BTIME|mountMask, &st); err != nil {
		return stamp{}, fmt.Errorf("looking at a file: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return stamp{}, errNotRegular
	}
	ns := func(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }
	s := stamp{dev: packed(&st), ino: st.Ino, mount: st.Mnt_id, size: int64(st.Size), ctime: ns(st.Ctime), mtime: ns(st.Mtime)}
	if st.Mask&stampMask != stampMask {
		s.ctime = 0 // it cannot be relied on
	}
	if st.Mask&unix.STATX_BTIME != 0 {
		s.btime = ns(st.Btime)
	}
	return s, nil
}

// packed is the device as the kernel has it in s_dev.
func packed(st *unix.Statx_t) uint64 { return uint64(st.Dev_major)<<20 | uint64(st.Dev_minor) }

// settled is how old the last change must be for the next one to have another time: what the
// coarsest clock of the file systems below has, and much more.
const settled = 2 * time.Second

// lasting reports whether another content will have another stamp.
//
// It needs a file system that only this kernel changes, and that takes the time of a write
// through a mapping, too: on tmpfs there is none. Such a write is seen once for each page,
// until the page is written back, so nobody may have the file open for writing now; whoever
// opens it later changes the time with the first write.
func (s stamp) lasting(fd int, now time.Time) bool {
	old := now.Add(-settled).UnixNano()
	if s.ctime <= 0 || s.ctime > old || s.mtime > old {
		return false
	}
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.SQUASHFS_MAGIC, unix.EROFS_SUPER_MAGIC_V1:
	default:
		return false
	}
	if unwritten(fd) != nil {
		return false
	}
	// The look at the writers says what is true of now: is it the same file still?
	after, err := stampOf(fd)
	return err == nil && after == s
}

// unwritten returns nil when nobody has the file open for writing. The kernel gives a read
// lease only then, and it is given back at once; whoever opens the file for writing in
// between waits for that, or, with O_NONBLOCK, is told to try again. Another user's file
// takes CAP_LEASE.
func unwritten(fd int) error {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK); err != nil {
		return err
	}
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	return err
}

// generated reports whether the kernel makes the files of that file system up when they are
// read. To read them can do something, such as take a line out of a log; some can only be
// written; and no program runs from there.
func generated(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC,
		unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.AAFS_MAGIC, unix.BPF_FS_MAGIC, unix.PSTOREFS_MAGIC, unix.EFIVARFS_MAGIC,
		unix.BINFMTFS_MAGIC, unix.RDTGROUP_SUPER_MAGIC:
		return true
	}
	return false
}

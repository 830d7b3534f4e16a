// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"encoding/binary"
	"strings"

	"golang.org/x/sys/unix"
)

// openDirFlags open a directory to read it. Its open raises an event of our own
// when its parent is marked.
const openDirFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK

// resolveCached is RESOLVE_CACHED of include/uapi/linux/openat2.h (5.12): EAGAIN
// instead of a question to the file system.
const resolveCached = 0x20

// openChild opens a directory in an open one, unless something is mounted there:
// whoever mounted it might let us wait.
func openChild(dir int, name string) (int, error) {
	return openNear(dir, name, openDirFlags, unix.RESOLVE_NO_XDEV)
}

// openNear is openat2(2). Before 5.6 it resolves without limits, and the mount table has
// to do.
func openNear(at int, part string, flags int, resolve uint64) (int, error) {
	fd, err := unix.Openat2(at, part, &unix.OpenHow{Flags: uint64(flags), Resolve: resolve})
	if err == unix.ENOSYS {
		return unix.Openat(at, part, flags, 0)
	}
	return fd, err
}

// openKnown opens what is at an absolute path, with O_PATH, and returns the mount that
// it is on. On the way it enters only mounts that the table has and that may be asked:
// a user may have mounted something since, whose server never answers. Entering a
// mount asks nothing, going on in it would.
func (m *marks) openKnown(path string) (fd, mount int, err error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if fd, err = unix.Open("/", flags, 0); err != nil {
		return -1, 0, err
	}
	mount = m.table.root.id
	for part := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if part == "" {
			continue // the root itself
		}
		next, err := unix.Openat(fd, part, flags, 0)
		unix.Close(fd)
		if err != nil {
			return -1, 0, err
		}
		fd = next
		id, ok := mountID(fd)
		known, listed := m.table.byID[id]
		if !m.askRemote && (!ok || !listed || known.remote()) {
			unix.Close(fd)
			return -1, 0, errMoved
		}
		mount = id
	}
	return fd, mount, nil
}

// openBelow opens the directory at rel below the root of a tree that was on that
// mount. It enters no mount that came since.
func (m *marks) openBelow(root string, on int, rel string) (int, error) {
	dir, id, err := m.openKnown(root)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	if id != on {
		return -1, errMoved
	}
	return openParts(dir, rel, func(at int, part string, flags int) (int, error) {
		return openNear(at, part, flags, unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
	})
}

// openParts opens a directory at a path of any length below at, part by part.
func openParts(at int, path string, open func(at int, part string, flags int) (int, error)) (int, error) {
	const most = 4000 // below PATH_MAX, with room for nothing in particular
	dir := at
	for path != "" {
		part := path
		if len(part) > most {
			// Names have at most 255 bytes, so there is a slash.
			part = part[:strings.LastIndexByte(part[:most], '/')]
		}
		flags := openDirFlags
		if len(part) < len(path) {
			flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
		}
		fd, err := open(dir, part, flags)
		if dir != at {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir, path = fd, strings.TrimLeft(path[len(part):], "/")
	}
	return dir, nil
}

// subdirectories returns the names of the directories in an open directory.
func subdirectories(fd int) ([]string, error) {
	var names []string
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Getdents(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		for p := buf[:n]; len(p) > 19; {
			// struct linux_dirent64: ino, off, reclen, type, name with its NUL.
			size := int(binary.NativeEndian.Uint16(p[16:]))
			if size < 20 || size > len(p) {
				break
			}
			kind := p[18]
			name, _, _ := strings.Cut(string(p[19:size]), "\x00")
			p = p[size:]
			if name == "." || name == ".." {
				continue
			}
			if kind == unix.DT_UNKNOWN {
				kind = kindOf(fd, name)
			}
			if kind == unix.DT_DIR {
				names = append(names, name)
			}
		}
	}
}

// kindOf asks for the kind of a name that the directory does not tell (XFS and ext4
// made without ftype).
func kindOf(dir int, name string) byte {
	// From the cache: a server may be mounted there that never answers.
	var st unix.Statx_t
	if statxat(dir, append([]byte(name), 0), unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC, &st) == 0 && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return unix.DT_DIR
	}
	return unix.DT_UNKNOWN
}

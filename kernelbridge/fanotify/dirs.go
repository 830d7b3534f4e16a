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
// whoever mounted it might let us wait. Before 5.6 the mount table has to do.
func openChild(dir int, name string) (int, error) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: openDirFlags, Resolve: unix.RESOLVE_NO_XDEV})
	if err == unix.ENOSYS {
		return unix.Openat(dir, name, openDirFlags, 0)
	}
	return fd, err
}

// openBelow opens the directory at rel below the root of a tree that was on that
// mount. It enters no mount that came since, and on the way to the root asks no file
// system: a user may have mounted something there that never answers.
func openBelow(root string, on int, rel string) (int, error) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolveCached | unix.RESOLVE_NO_SYMLINKS}
	dir, err := unix.Openat2(unix.AT_FDCWD, root, how)
	switch err {
	case nil:
	case unix.EAGAIN:
		return -1, errMoved
	case unix.ENOSYS, unix.EINVAL: // before 5.6, 5.12
		return openDir(strings.TrimSuffix(root, "/") + "/" + rel)
	default:
		return -1, err
	}
	defer unix.Close(dir)
	if id, ok := mountID(dir); !ok || id != on {
		return -1, errMoved
	}
	return openParts(dir, rel, func(at int, part string, flags int) (int, error) {
		return unix.Openat2(at, part, &unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS})
	})
}

// openDir opens the directory at an absolute path of any length.
func openDir(path string) (int, error) {
	return openParts(unix.AT_FDCWD, path, func(at int, part string, flags int) (int, error) { return unix.Openat(at, part, flags, 0) })
}

// openParts opens a path of any length from at on, part by part.
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
				var st unix.Stat_t
				if unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
					kind = unix.DT_DIR
				}
			}
			if kind == unix.DT_DIR {
				names = append(names, name)
			}
		}
	}
}

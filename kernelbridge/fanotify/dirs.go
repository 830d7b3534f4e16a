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

// openDir opens the directory at an absolute path of any length.
func openDir(path string) (int, error) {
	const most = 4000 // below PATH_MAX, with room for nothing in particular
	if len(path) <= most {
		return unix.Open(path, openDirFlags, 0)
	}
	dir := unix.AT_FDCWD
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
		fd, err := unix.Openat(dir, part, flags, 0)
		if dir >= 0 {
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

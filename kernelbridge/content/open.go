// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// find returns a descriptor that names the file at its path as the task has it. What is found
// under that name must be what the request is about: anybody may have put another file there.
//
// It does not open the file, because that can do something of its own: rewind a tape, arm a
// watchdog, take a lock.
func (o *Object) find() (at int, err error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", o.Task), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("opening the root directory of a task: %w", err)
	}
	defer unix.Close(root)
	// The kernel has followed all links before it came to this name.
	at, err = unix.Openat2(root, o.Path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return -1, fmt.Errorf("opening a file by its path: %w", err)
	}
	if err := o.identify(at); err != nil {
		unix.Close(at)
		return -1, err
	}
	return at, nil
}

// readable opens what find has found for reading.
func readable(at int) (int, error) {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(at), unix.O_RDONLY|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
	if err != nil {
		return -1, fmt.Errorf("opening a file for reading: %w", err)
	}
	return fd, nil
}

// identify returns nil when the file is the regular one that o is about.
func (o *Object) identify(fd int) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_MNT_ID, &st); err != nil {
		return fmt.Errorf("looking at a file: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errNotRegular
	}
	if st.Ino == o.Ino && packed(&st) == o.Dev {
		return nil // Fast path: most file systems tell both as the kernel has them.
	}
	// Btrfs and overlayfs have numbers of their own for stat(2). The inode's is told of the
	// descriptor, since 5.14, and the device's of the mount.
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return fmt.Errorf("looking at a descriptor: %w", err)
	}
	if ino, ok := inodeOf(info); !ok || ino != o.Ino {
		return errGone
	}
	table, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", o.Task))
	if err != nil {
		return fmt.Errorf("opening the mount table of a task: %w", err)
	}
	defer table.Close()
	if dev, ok := deviceOf(table, st.Mnt_id); !ok || dev != o.Dev {
		return errGone
	}
	return nil
}

// inodeOf returns the number of the inode from the text of /proc/PID/fdinfo/FD.
func inodeOf(info []byte) (ino uint64, ok bool) {
	for line := range strings.Lines(string(info)) {
		if value, found := strings.CutPrefix(line, "ino:"); found {
			ino, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return ino, err == nil
		}
	}
	return 0, false
}

// deviceOf returns the device of the file system that is mounted as id, by a mount table in
// the form of /proc/PID/mountinfo.
func deviceOf(table io.Reader, id uint64) (dev uint64, ok bool) {
	want := strconv.FormatUint(id, 10)
	lines := bufio.NewScanner(table)
	lines.Buffer(make([]byte, 0, 4096), 1<<20) // the options of an overlay can be long
	for lines.Scan() {
		f := strings.SplitN(lines.Text(), " ", 4)
		if len(f) < 4 || f[0] != want {
			continue
		}
		major, minor, _ := strings.Cut(f[2], ":")
		a, err := strconv.ParseUint(major, 10, 12)
		if err != nil {
			return 0, false
		}
		b, err := strconv.ParseUint(minor, 10, 20)
		if err != nil {
			return 0, false
		}
		return a<<20 | b, true
	}
	return 0, false
}

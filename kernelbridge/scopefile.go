// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// file is what the kernel knows a path by.
type file struct {
	key       treeKey
	mode      uint32
	mount     uint64 // id, as in mountinfo
	mountRoot bool
}

// identify looks a path up.
func (r *resolver) identify(path string) (file, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return file{}, err
	}
	defer unix.Close(fd)
	return r.known(fd)
}

// known says what the kernel knows an open file by. stat(2) does not tell what a hook sees
// everywhere: btrfs and overlayfs have device numbers of their own for it. So the inode is
// taken from the descriptor and the device from the mount.
func (r *resolver) known(fd int) (file, error) {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, unix.STATX_BASIC_STATS, &st); err != nil {
		return file{}, err
	}
	f := file{key: treeKey{uint64(st.Dev_major)<<20 | uint64(st.Dev_minor), st.Ino}, mode: uint32(st.Mode),
		mountRoot: st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0}
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return file{}, err
	}
	for line := range strings.Lines(string(info)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		number, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
		switch {
		case err != nil: // one of the other lines
		case name == "ino":
			f.key.Ino = number
		case name == "mnt_id":
			f.mount = number
			if dev, ok := r.device(number); ok {
				f.key.Dev = dev
			}
		}
	}
	return f, nil
}

// device returns the device of the file system of a mount.
func (r *resolver) device(mount uint64) (uint64, bool) {
	if r.mounts == nil {
		r.mounts = map[uint64]uint64{}
		text, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			return 0, false
		}
		for line := range bytes.Lines(text) {
			var id, parent, major, minor uint64
			if n, _ := fmt.Sscanf(string(line), "%d %d %d:%d", &id, &parent, &major, &minor); n == 4 {
				r.mounts[id] = major<<20 | minor
			}
		}
	}
	dev, ok := r.mounts[mount]
	return dev, ok
}

// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const devicePath = "/dev/fuse"

// openDevice opens a channel to FUSE.
func openDevice(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, deviceError(path, err)
	}
	return fd, nil
}

func deviceError(path string, err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return &UnsupportedError{"there is no " + path, "modprobe fuse, or give the container the device", err}
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return &UnsupportedError{path + " must not be opened",
			"run as root, and allow the device (systemd: DeviceAllow=" + path + " rw, containers: --device " + path + ")", err}
	}
	return fmt.Errorf("opening %s: %w", path, err)
}

func mountError(err error) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return &UnsupportedError{"the kernel has no FUSE", "modprobe fuse", err}
	case errors.Is(err, unix.ENOSYS):
		return &UnsupportedError{"the kernel has no fsopen", "use Linux 6.12 or later", err}
	case errors.Is(err, unix.EPERM):
		return &UnsupportedError{"this process must not mount", "run as root (CAP_SYS_ADMIN) in the host's user namespace", err}
	}
	return fmt.Errorf("opening a FUSE file system: %w", err)
}

// openMount makes the FUSE mount that device serves and returns a descriptor of its
// root. The mount is attached nowhere: it is gone when nothing of it is in use.
func openMount(device int) (int, error) {
	fs, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, mountError(err)
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{
		{"source", helperName},
		{"fd", strconv.Itoa(device)},
		{"rootmode", strconv.FormatUint(rootMode, 8)},
		{"user_id", "0"}, {"group_id", "0"},
	} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("setting the mount option %s=%s: %w%s", o[0], o[1], err, mountLog(fs))
		}
	}
	// Whoever asks is let in, whatever its uid: all held tasks ask. Not
	// default_permissions, which would ask for attributes each time.
	for _, o := range []string{"allow_other", "ro"} {
		if err := unix.FsconfigSetFlag(fs, o); err != nil {
			return -1, fmt.Errorf("setting the mount option %s: %w%s", o, err, mountLog(fs))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("making the FUSE file system: %w%s", err, mountLog(fs))
	}
	// nosuid: an exec does not ask for the file's capabilities.
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY)
	if err != nil {
		return -1, fmt.Errorf("mounting the FUSE file system: %w%s", err, mountLog(fs))
	}
	return fd, nil
}

// mountLog returns what the kernel has to say about an option, ready to append.
func mountLog(fs int) string {
	var out strings.Builder
	b := make([]byte, 1024)
	for range 8 {
		n, err := unix.Read(fs, b)
		if err != nil || n == 0 {
			break
		}
		out.WriteString("; the kernel: " + strings.TrimSpace(string(b[:n])))
	}
	return out.String()
}

// deviceOf turns the device number that stat(2) reports into the kernel's own.
func deviceOf(st *unix.Stat_t) uint64 {
	return uint64(unix.Major(st.Dev))<<20 | uint64(unix.Minor(st.Dev))
}

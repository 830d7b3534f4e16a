// SPDX-License-Identifier: Apache-2.0

package veritytest

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the image
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// image is the beginning of an empty ext4, behind which there is nothing but zeros. It was made by
//
//	truncate -s 32M image
//	mkfs.ext4 -b 4096 -N 64 -I 256 -m 0 -L verity \
//	  -O verity,^has_journal,^resize_inode,^metadata_csum,^huge_file,^dir_nlink,^64bit \
//	  -U 00000000-0000-4000-8000-000000000001 \
//	  -E hash_seed=00000000-0000-4000-8000-000000000002,lazy_itable_init=0,root_owner=0:0 image
//	head -c 155648 image | gzip -9n
//
//go:embed testdata/ext4.gz
var image []byte

// imageBytes is how large the file system is.
const imageBytes = 32 << 20

// Mount mounts an empty ext4 with the feature verity at dir, which must be there, until the test
// ends. It skips the test where that cannot be had.
func Mount(tb testing.TB, dir string) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("files cannot have fs-verity here: needs root to mount a file system")
	}
	if _, err := os.Stat("/sys/fs/ext4/features/verity"); err != nil {
		tb.Skipf("files cannot have fs-verity here: the kernel, or its ext4, has none: %v", err)
	}
	file := filepath.Join(tb.TempDir(), "image")
	if err := writeImage(file); err != nil {
		tb.Fatalf("writing the image of an ext4: %v", err)
	}
	device, loop, err := attach(file)
	if err != nil {
		tb.Skipf("files cannot have fs-verity here: no loop device: %v", err)
	}
	defer loop.Close() // from then on the mount keeps the device
	if err := unix.Mount(device, dir, "ext4", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		tb.Fatalf("mounting %s: %v", device, err)
	}
	tb.Cleanup(func() {
		err := unix.Unmount(dir, 0)
		if errors.Is(err, unix.EBUSY) { // whoever keeps it is about to end
			err = unix.Unmount(dir, unix.MNT_DETACH)
		}
		if err != nil {
			tb.Errorf("unmounting %s: %v", dir, err)
		}
	})
}

func writeImage(name string) error {
	r, err := gzip.NewReader(bytes.NewReader(image))
	if err != nil {
		return err
	}
	head, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(name, head, 0o600); err != nil {
		return err
	}
	return os.Truncate(name, imageBytes)
}

// attach makes a block device of a file. The device goes with the last who has it open.
func attach(file string) (device string, loop *os.File, err error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return "", nil, err
	}
	defer control.Close()
	for range 10 { // others may take the device that is free
		var n int
		if n, err = unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE); err != nil {
			return "", nil, err
		}
		device = "/dev/loop" + strconv.Itoa(n)
		if loop, err = os.OpenFile(device, os.O_RDWR, 0); err != nil {
			return "", nil, err
		}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}})
		if err == nil {
			return device, loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			break
		}
	}
	return "", nil, err
}

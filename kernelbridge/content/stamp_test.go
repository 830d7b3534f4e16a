// SPDX-License-Identifier: Apache-2.0

package content

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A file system that was taken off and put on again may have been changed in between, though device,
// inode, size and times are as before: its files are others.
func TestStampAfterRemount(t *testing.T) {
	if !uniqueMounts() {
		t.Skip("mounts have no numbers of their own before Linux 6.8")
	}
	dir := t.TempDir()
	for _, d := range []string{"of", "at"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "of", "file"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	look := func() (s stamp, err error) {
		f, err := os.Open(filepath.Join(dir, "at", "file"))
		if err != nil {
			return s, err
		}
		defer f.Close()
		return stampOf(int(f.Fd()))
	}
	inMountNamespace(t, func() error {
		var stamps [2]stamp
		for i := range stamps {
			if err := unix.Mount(dir+"/of", dir+"/at", "", unix.MS_BIND, ""); err != nil {
				return err
			}
			for range 2 {
				s, err := look()
				if err != nil {
					return err
				}
				if stamps[i] != (stamp{}) && s != stamps[i] {
					t.Errorf("mount %d: %+v, and then %+v", i, stamps[i], s)
				}
				stamps[i] = s
			}
			if err := unix.Unmount(dir+"/at", 0); err != nil {
				return err
			}
		}
		if a, b := stamps[0], stamps[1]; a == b {
			t.Errorf("%+v after a mount of its own, too", a)
		} else if a.mount = b.mount; a != b {
			t.Errorf("%+v and %+v: more than the mount is another", a, b)
		}
		return nil
	})
}

// uniqueMounts reports whether the kernel gives no number of a mount twice.
func uniqueMounts() bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, "/", 0, unix.STATX_MNT_ID_UNIQUE, &st)
	return err == nil && st.Mask&unix.STATX_MNT_ID_UNIQUE != 0
}

// SPDX-License-Identifier: Apache-2.0

package content

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

var errNoOverlay = errors.New("overlayfs cannot be mounted here")

// inMountNamespace runs f on a thread with a mount namespace of its own.
func inMountNamespace(t *testing.T, f func() error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("overlayfs cannot be mounted here: needs root")
	}
	done := make(chan error, 1)
	go offMainThread(func() {
		defer close(done) // when f ends the test, too
		err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = f()
		}
		done <- err
	})
	switch err := <-done; {
	case errors.Is(err, errNoOverlay):
		t.Skip(err)
	case err != nil:
		t.Error(err)
	}
}

// offMainThread runs f on a thread that ends with it. The main thread does not end, and its mount
// namespace is the one that /proc tells of the process.
func offMainThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return // still locked
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		offMainThread(f)
	}()
	<-done
	runtime.UnlockOSThread()
}

// On an overlay stat(2) has other numbers than the hook; in another mount namespace the name
// leads somewhere else for us.
func TestOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"lower/file": "below", "merged/file": "hidden by the mount"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := pool(t, Options{})
	inMountNamespace(t, func() error {
		options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)
		if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, options); err != nil {
			return fmt.Errorf("%w: %w", errNoOverlay, err)
		}
		name := dir + "/merged/file"
		for _, want := range []string{"below", "above"} {
			o, err := asTheKernelHasIt(name)
			if err != nil {
				return err
			}
			for range 2 {
				if got := digestOf(t, p, o); !got.known || got.sum != sha256.Sum256([]byte(want)) {
					return fmt.Errorf("not the digest of %q: known %t, %v", want, got.known, p.Stats())
				}
			}
			o.Dev++
			if got := digestOf(t, p, o); got.known {
				return fmt.Errorf("a digest of a file on another file system")
			}
			if err := os.WriteFile(name, []byte("above"), 0o644); err != nil { // copies it up
				return err
			}
		}
		if n := p.counters.hits.Load(); n != 0 {
			return fmt.Errorf("%d digests were remembered on an overlay", n)
		}
		return nil
	})
}

// asTheKernelHasIt is a file as a hook that this thread is in would have it.
func asTheKernelHasIt(name string) (Object, error) {
	f, err := os.Open(name)
	if err != nil {
		return Object{}, err
	}
	defer f.Close()
	o := Object{File: -1, Task: uint32(unix.Gettid()), Path: name}
	info, err := os.ReadFile(fmt.Sprintf("/proc/thread-self/fdinfo/%d", f.Fd()))
	if err != nil {
		return Object{}, err
	}
	o.Ino, _ = inodeOf(info)
	var st unix.Statx_t
	if err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st); err != nil {
		return Object{}, err
	}
	table, err := os.Open("/proc/thread-self/mountinfo")
	if err != nil {
		return Object{}, err
	}
	defer table.Close()
	o.Dev, _ = deviceOf(table, st.Mnt_id)
	return o, nil
}

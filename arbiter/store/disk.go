// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	lockName    = "lock"
	currentName = "current"
	asideName   = "set-aside"
	rulesSuffix = ".rules"
	tempSuffix  = ".tmp"
	// epochDigits is enough for every uint64, so that names sort as epochs do.
	epochDigits = 20
	// maxFileBytes bounds what is read into memory: twice the largest rule file.
	maxFileBytes = 512 << 20
)

// setName returns the file name of an epoch.
func setName(epoch uint64) string { return fmt.Sprintf("%0*d%s", epochDigits, epoch, rulesSuffix) }

// writeFile replaces dir/name by parts, two at least, one behind the other: after a crash at any moment it is the old
// file or the new one, and after success it is the new one. On an error the old
// file is in place, unless the error came with the last step: then the new one
// is, and may be gone after a crash.
func (s *Store) writeFile(name string, parts [][]byte) error {
	temp := filepath.Join(s.dir, name+tempSuffix)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	write := func() error {
		if err := s.step(name, "create"); err != nil {
			return err
		}
		for at, part := range parts {
			if at == len(parts)-1 { // the last one may be missing after a crash
				if err := s.step(name, "write"); err != nil {
					return err
				}
			}
			if _, err := f.Write(part); err != nil {
				return err
			}
		}
		if err := s.step(name, "sync"); err != nil {
			return err
		}
		return f.Sync()
	}
	if err := errors.Join(write(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	err = s.step(name, "rename")
	if err == nil {
		err = os.Rename(temp, filepath.Join(s.dir, name))
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := s.step(name, "sync dir"); err != nil {
		return err
	}
	return syncDir(s.dir)
}

// step is where tests stop the machine or make the disk fail.
func (s *Store) step(name, step string) error {
	if s.fault == nil {
		return nil
	}
	return s.fault(name, step)
}

// syncDir makes renames in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFile returns the content of a regular file that is not too large.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: it is no regular file", ErrCorrupt)
	}
	if info.Size() > maxFileBytes {
		return nil, fmt.Errorf("%w: %d bytes are more than the %d that are ever written", ErrCorrupt, info.Size(), maxFileBytes)
	}
	return io.ReadAll(io.LimitReader(f, maxFileBytes+1))
}

// damaged reports whether an error of readFile or a decoder lies in the file
// itself, and not in this process (out of descriptors, no permission), which
// must not cost a good file its place.
func damaged(err error) bool {
	for _, e := range []error{ErrCorrupt, syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, syscall.ELOOP, syscall.ENXIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// setAside moves dir/name into set-aside/ under a name that is free there, and
// returns the new path.
func (s *Store) setAside(name string) (string, error) {
	dir := filepath.Join(s.dir, asideName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	stamp := time.Now().UTC().Format("20060102T150405.000000000")
	for i := range 1000 {
		to := filepath.Join(dir, fmt.Sprintf("%s.%s.%d", name, stamp, i))
		if _, err := os.Lstat(to); err == nil {
			continue
		}
		if err := os.Rename(filepath.Join(s.dir, name), to); err != nil {
			return "", err
		}
		return to, errors.Join(syncDir(dir), syncDir(s.dir))
	}
	return "", fmt.Errorf("no free name in %s: move its files elsewhere", dir)
}

// lockDir locks the directory for this process, until the file is closed.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: stop the other arbiterd, or give this one a store directory of its own", ErrLocked)
		}
		return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
	}
	return f, nil
}

// checkDir refuses a directory in which others can write: what is in it decides
// what this machine may run.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %#o, others can write into it: run chmod 0700 %s", dir, info.Mode().Perm(), dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to uid %d, not to uid %d: run chown %d %s", dir, st.Uid, os.Geteuid(), os.Geteuid(), dir)
	}
	return nil
}

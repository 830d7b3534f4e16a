// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// ChecksumError says that a file is not the one that was promised.
type ChecksumError struct{ Path, Got, Want string }

// Error implements error.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("checking %s: its SHA256 is %s, wanted %s; it was refused", e.Path, e.Got, e.Want)
}

// checkFile compares a file with its SHA256 in lower-case hex. It returns a ChecksumError when they differ.
func checkFile(path, want string) error {
	got, err := sumFile(path)
	if err != nil {
		return err
	}
	if got != want {
		return &ChecksumError{Path: path, Got: got, Want: want}
	}
	return nil
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("checking: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("checking %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeFile replaces a file in one step: a reader sees the old or the new content whole.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // a leftover only when something below went wrong
	_, err = f.Write(content)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(f.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// lockFile waits for the lock of a cache folder and returns what gives it back. waiting is called once if it has to wait.
func lockFile(path string, waiting func()) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking the kernel cache: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		waiting()
		for {
			if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
				break
			}
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the kernel cache %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// Archive writes a cpio archive of the "newc" form, the one that the kernel unpacks as its initramfs (see
// Documentation/driver-api/early-userspace/buffer-format.rst). Names are absolute or relative to /; missing parents are
// made. The same calls give the same bytes: times are 0. It is for one goroutine.
type Archive struct {
	w    io.Writer
	ino  uint32
	n    int64
	seen map[string]bool
}

// File type bits of the mode field, as in stat(2).
const (
	cpioDir     = 0o040000
	cpioFile    = 0o100000
	cpioSymlink = 0o120000
)

// NewArchive starts an archive. The caller ends it with Close and owns w.
func NewArchive(w io.Writer) *Archive {
	return &Archive{w: w, seen: map[string]bool{".": true}}
}

// Dir adds a directory, unless it is there already.
func (a *Archive) Dir(name string) error {
	name = cpioName(name)
	if a.seen[name] {
		return nil
	}
	if err := a.parent(name); err != nil {
		return err
	}
	return a.entry(name, cpioDir|0o755, nil, 0)
}

// File adds a regular file of size bytes read from r. A second file of the same name is an error.
func (a *Archive) File(name string, perm fs.FileMode, r io.Reader, size int64) error {
	name = cpioName(name)
	if a.seen[name] {
		return fmt.Errorf("adding %s to the initramfs: it is there already", name)
	}
	if size < 0 || size > math.MaxUint32 {
		return fmt.Errorf("adding %s to the initramfs: %d bytes do not fit, the format ends at 4 GiB", name, size)
	}
	if err := a.parent(name); err != nil {
		return err
	}
	return a.entry(name, cpioFile|uint32(perm.Perm()), r, size)
}

// Symlink adds a symbolic link.
func (a *Archive) Symlink(name, target string) error {
	name = cpioName(name)
	if err := a.parent(name); err != nil {
		return err
	}
	return a.entry(name, cpioSymlink|0o777, strings.NewReader(target), int64(len(target)))
}

// Copy adds the host's file or folder at from, with all below it. Symbolic links stay links below a folder and are
// followed when named themselves; sockets, devices and pipes are left out, for a test has no use for the host's.
func (a *Archive) Copy(name, from string) error {
	info, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("adding to the initramfs: %w", err)
	}
	if !info.IsDir() {
		return a.copyFile(name, from)
	}
	err = filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		to := path.Join(name, filepath.ToSlash(rel))
		switch {
		case d.IsDir():
			return a.Dir(to)
		case d.Type().IsRegular():
			return a.copyFile(to, p)
		case d.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			return a.Symlink(to, target)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("adding %s to the initramfs: %w", from, err)
	}
	return nil
}

func (a *Archive) copyFile(name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return a.File(name, info.Mode(), f, info.Size())
}

// Close ends the archive.
func (a *Archive) Close() error {
	if err := a.header("TRAILER!!!", 0, 0, 0); err != nil {
		return err
	}
	return a.pad(512)
}

func cpioName(name string) string {
	name = path.Clean("/" + name)[1:]
	if name == "" {
		return "."
	}
	return name
}

func (a *Archive) parent(name string) error {
	if dir := path.Dir(name); dir != "." {
		return a.Dir(dir)
	}
	return nil
}

func (a *Archive) entry(name string, mode uint32, r io.Reader, size int64) error {
	a.seen[name] = true
	a.ino++
	if err := a.header(name, a.ino, mode, uint32(size)); err != nil {
		return err
	}
	if r == nil {
		return nil
	}
	n, err := io.CopyN(a.w, r, size)
	a.n += n
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("it ended after %d of %d bytes", n, size)
		}
		return fmt.Errorf("writing %s into the initramfs: %w", name, err)
	}
	return a.pad(4)
}

// header writes the 110 bytes, the name with its NUL, and the padding to 4.
func (a *Archive) header(name string, ino, mode, size uint32) error {
	const links = 1 // the kernel takes more than one for a hard link to be joined by ino
	n, err := fmt.Fprintf(a.w, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\x00",
		ino, mode, 0, 0, links, 0, size, 0, 0, 0, 0, len(name)+1, 0, name)
	a.n += int64(n)
	if err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	return a.pad(4)
}

func (a *Archive) pad(to int64) error {
	n, err := a.w.Write(make([]byte, (to-a.n%to)%to))
	a.n += int64(n)
	if err != nil {
		return fmt.Errorf("writing the initramfs: %w", err)
	}
	return nil
}

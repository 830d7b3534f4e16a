// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"crypto/md5" // what dpkg has of its files
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// dpkg is dpkg's database of what is installed below a root directory. Nothing above the root is
// read, whatever the symbolic links of the tree say; below another one than / absolute ones are
// not followed.
type dpkg struct {
	open     func(name string) (*os.File, error) // from the root
	close    func() error
	packages []dpkgPackage
	diverted map[string]diversion // by the path that the package names
}

type dpkgPackage struct {
	name, arch, version string
	state               string // installed, triggers-pending, half-configured, ...
}

// diversion is a file that is elsewhere, but for one package.
type diversion struct{ to, by string }

// dpkgDir is where the database is, from the root.
const dpkgDir = "var/lib/dpkg"

// openDpkg reads which packages are installed.
func openDpkg(root string) (*dpkg, error) {
	const flags = os.O_RDONLY | unix.O_NONBLOCK // no wait for who writes into a fifo
	d := &dpkg{diverted: map[string]diversion{}, close: func() error { return nil },
		open: func(name string) (*os.File, error) { return os.OpenFile("/"+name, flags, 0) }}
	if filepath.Clean(root) != "/" {
		r, err := os.OpenRoot(root)
		if err != nil {
			return nil, err
		}
		d.open, d.close = func(name string) (*os.File, error) { return r.OpenFile(name, flags, 0) }, r.Close
	}
	if err := errors.Join(d.readStatus(), d.readDiversions()); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// readStatus reads the packages that have files here, in the order of the file.
func (d *dpkg) readStatus() error {
	var p dpkgPackage
	end := func() {
		if p.state != "" && p.state != "not-installed" && p.state != "config-files" {
			d.packages = append(d.packages, p)
		}
		p = dpkgPackage{}
	}
	err := d.lines("status", func(line string) {
		if line == "" {
			end()
			return
		}
		key, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); key {
		case "Package":
			p.name = value
		case "Architecture":
			p.arch = value
		case "Version":
			p.version = value
		case "Status":
			p.state = value[strings.LastIndexByte(value, ' ')+1:]
		}
	})
	end()
	return err
}

// readDiversions reads the files that are not where their package says.
func (d *dpkg) readDiversions() error {
	var of []string
	err := d.lines("diversions", func(line string) {
		if of = append(of, line); len(of) == 3 {
			d.diverted[of[0]] = diversion{of[1], of[2]}
			of = nil
		}
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// lines calls f with each line of a file of the database.
func (d *dpkg) lines(name string, f func(line string)) error {
	file, err := d.open(path.Join(dpkgDir, name))
	if err != nil {
		return err
	}
	defer file.Close()
	s := bufio.NewScanner(file)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		f(s.Text())
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s: %w", path.Join(dpkgDir, name), err)
	}
	return nil
}

// installed is a file of a package.
type installed struct {
	path       string
	unchanged  bool // it is what the package brought
	sha256     [sha256.Size]byte
	executable bool // it has a permission to execute, or is an ELF file, as libraries are
}

// files calls found with the files of a package that are there, and unread with the path and the
// reason of one that cannot be read. Configuration files are in neither.
func (d *dpkg) files(p dpkgPackage, found func(installed), unread func(path, why string)) error {
	read := func(name string) error {
		return d.lines(path.Join("info", name+".md5sums"), func(line string) {
			sum, name, ok := strings.Cut(line, "  ")
			want, err := hex.DecodeString(sum)
			if !ok || err != nil || len(want) != md5.Size {
				unread(line, "this line of the checksums is none")
				return
			}
			name = path.Clean("/" + name)
			if to, ok := d.diverted[name]; ok && to.by != p.name {
				name = to.to
			}
			f, err := d.hash(name, want)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil:
				unread(name, withoutPath(err).Error())
			default:
				found(f)
			}
		})
	}
	err := read(p.name + ":" + p.arch) // of those that can be installed for several at once
	if errors.Is(err, fs.ErrNotExist) {
		err = read(p.name)
	}
	return err
}

// hash reads a file whose MD5 was want.
func (d *dpkg) hash(name string, want []byte) (installed, error) {
	f, err := d.open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return installed{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return installed{}, err
	}
	if !info.Mode().IsRegular() {
		return installed{path: name, executable: true}, nil
	}
	old, now := md5.New(), sha256.New()
	in := bufio.NewReader(f)
	magic, err := in.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return installed{}, err
	}
	out := installed{path: name, executable: info.Mode()&0o111 != 0 || string(magic) == "\x7fELF"}
	if _, err := io.Copy(io.MultiWriter(old, now), in); err != nil {
		return installed{}, err
	}
	out.unchanged = bytes.Equal(old.Sum(nil), want)
	now.Sum(out.sha256[:0])
	return out, nil
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// place is a file or directory that the protection knows. It is held open, so that the
// kernel keeps the inode, where the flags are, and the number of the mount.
type place struct {
	path string
	fd   int
}

// What a place is protected from: enum arb_place_flag.
const (
	placeKept = 1 << iota // change, replacement, removal, a mount over it
	placeTree             // the same, for what is in it
	placeWay              // it leads to one: removal, renaming, a mount over it
)

// ProtectFile protects a file, or a directory and what is up to two levels below it; where
// the path is a symbolic link, the link too. Directories on the way there cannot be moved
// or mounted over any more. The object need not be there a second time: what is protected
// is the one that is there now.
func (p *Protection) ProtectFile(path string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	err := p.protectFile(path)
	if err != nil {
		err = fmt.Errorf("protecting %s: %w", path, err)
	}
	return err
}

func (p *Protection) protectFile(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return err
	}
	// A device would be refused to all others who use it.
	info, err := os.Stat(real)
	if err != nil {
		return err
	}
	if m := info.Mode(); !m.IsRegular() && !m.IsDir() && m.Type() != os.ModeSocket {
		return errors.New("it is no file, directory or socket")
	}
	paths := []string{real}
	if abs != real && filepath.Dir(abs) != "/proc/self" {
		paths = append(paths, abs)
	}
	for _, name := range paths {
		if err := p.addPlace(name, placeKept, unix.O_NOFOLLOW); err != nil {
			return err
		}
		for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
			if err := p.addPlace(dir, placeWay, 0); err != nil {
				return err
			}
			if dir == "/" {
				break
			}
		}
	}
	return nil
}

// addPlace sets flags on an inode beside those that it has. A directory that is kept is a
// tree.
func (p *Protection) addPlace(path string, flags uint32, open int) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC|open, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	at := place{path, fd}
	err = p.markPlace(at, flags)
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	p.places = append(p.places, at)
	return nil
}

func (p *Protection) markPlace(at place, flags uint32) error {
	var r resolver
	known, err := r.known(at.fd)
	if err != nil {
		return fmt.Errorf("looking at %s: %w", at.path, err)
	}
	if flags&placeKept != 0 && known.mode&unix.S_IFMT == unix.S_IFDIR {
		flags |= placeTree
	}
	word := protectArbPlace{Flags: flags, Index: uint32(len(p.places))}
	var before protectArbPlace
	switch err := p.maps.ArbPlaces.Lookup(int32(at.fd), &before); {
	case err == nil:
		word.Flags |= before.Flags
		if before.Flags&placeKept != 0 {
			word.Index = before.Index
		}
	case !errors.Is(err, ebpf.ErrKeyNotExist):
		return fmt.Errorf("reading what is known of %s: %w", at.path, err)
	}
	if err := p.maps.ArbPlaces.Put(int32(at.fd), &word); err != nil {
		return fmt.Errorf("writing what is known of %s: %w", at.path, err)
	}
	if word.Flags&placeTree != 0 {
		if err := p.maps.ArbKeptTrees.Put(known.key, &word); err != nil {
			return fmt.Errorf("writing what is known of %s: %w", at.path, err)
		}
	}
	if err := p.maps.ArbMounts.Put(uint32(known.mount), uint32(0)); err != nil {
		return fmt.Errorf("writing the mount of %s: %w", at.path, err)
	}
	return nil
}

// placePath returns the path of what was refused: leaf, so many levels below a place.
func (p *Protection) placePath(index, depth uint32, leaf string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index >= uint32(len(p.places)) {
		return leaf
	}
	path := p.places[index].path
	switch depth {
	case 0:
		return path
	case 1:
		return path + "/" + leaf
	}
	return path + "/.../" + leaf // the name between is not in the notice
}

func (p *Protection) closePlaces() error {
	var errs []error
	for _, at := range p.places {
		errs = append(errs, os.NewSyscallError("close", unix.Close(at.fd)))
	}
	return errors.Join(errs...)
}

// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"errors"
	"io/fs"
	"strings"
)

// Disk is what paths are on the machine where the rules are to hold, now. It follows no
// symbolic link.
type Disk interface {
	// List returns the names in a directory. An error that wraps fs.ErrNotExist says that
	// there is none.
	List(dir string) ([]Entry, error)
	// Exists reports whether there is something with that path.
	Exists(path string) bool
}

// Entry is one name in a directory.
type Entry struct {
	Name string
	Dir  bool // a directory, no link to one
}

const (
	// countedMost bounds how many names are looked at for one pattern: what would allow
	// more is too wide to be proposed by itself.
	countedMost = 20_000
	// countedInAll bounds it for a proposal: a few seconds on a cold disk.
	countedInAll = 500_000
)

// counter counts what patterns would allow.
type counter struct {
	disk Disk
	left int // of countedInAll
}

// errEnough ends a count at its bound, errBlind one that cannot be made.
var (
	errEnough = errors.New("enough names were looked at")
	errBlind  = errors.New("a directory cannot be read")
)

// count returns how many paths on the disk a pattern matches that are not among seen. At
// its bound it returns errEnough and what it found until then, and errBlind where it may
// not look.
func (c *counter) count(p pattern, seen map[string]bool) (n uint64, err error) {
	walk := &counting{counter: c, seen: seen, left: min(countedMost, c.left)}
	start := walk.left
	switch p.form {
	case isPrefix:
		err = walk.below(p.text)
	case isGlob:
		err = walk.parts("", p.parts)
	}
	c.left -= start - walk.left
	return walk.found, err
}

// counting is one count under way.
type counting struct {
	*counter
	seen  map[string]bool
	left  int
	found uint64
}

func (w *counting) list(dir string) ([]Entry, error) {
	entries, err := w.disk.List(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, errBlind
	}
	if w.left -= len(entries) + 1; w.left < 0 {
		w.left = 0
		return nil, errEnough
	}
	return entries, nil
}

func (w *counting) add(path string) {
	if !w.seen[path] {
		w.found++
	}
}

// below counts all paths below a directory.
func (w *counting) below(dir string) error {
	entries, err := w.list(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := strings.TrimSuffix(dir, "/") + "/" + e.Name
		w.add(path)
		if e.Dir {
			if err := w.below(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// parts counts the paths below dir that match the components.
func (w *counting) parts(dir string, parts []part) error {
	p, last := parts[0], len(parts) == 1
	if p.plain() {
		path := dir + "/" + p.texts[0]
		switch {
		case !last:
			return w.parts(path, parts[1:])
		case w.left == 0:
			return errEnough
		}
		w.left--
		if w.disk.Exists(path) {
			w.add(path)
		}
		return nil
	}
	entries, err := w.list(cmp.Or(dir, "/"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !p.matches(e.Name) {
			continue
		}
		path := dir + "/" + e.Name
		if last {
			w.add(path)
		} else if e.Dir {
			if err := w.parts(path, parts[1:]); err != nil {
				return err
			}
		}
	}
	return nil
}

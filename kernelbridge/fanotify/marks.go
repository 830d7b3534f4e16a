// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dirMask asks about a directory and what is directly in it.
const (
	mountMask = permMask | unix.FAN_ONDIR
	dirMask   = permMask | unix.FAN_ONDIR | unix.FAN_EVENT_ON_CHILD
	watchMask = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
)

type fileID struct{ dev, ino uint64 }

type directory struct {
	path  string // where it was seen last
	watch int
}

// marks is what is marked now. Backend.mu guards it; opening directories in it
// raises events of our own, which are answered by the workers or the watchdog,
// neither of which ever takes that lock.
type marks struct {
	group   int
	inotify int

	mounts  map[string]bool // by mount point
	dirs    map[fileID]*directory
	watches map[int]fileID
}

func newMarks(group, inotify int) *marks {
	return &marks{group: group, inotify: inotify, mounts: map[string]bool{}, dirs: map[fileID]*directory{},
		watches: map[int]fileID{}}
}

func (m *marks) count() (mounts, directories int) { return len(m.mounts), len(m.dirs) }

// change is one run over the trees: what it found to be in them, and what it had
// to add, so that it can be taken back.
type change struct {
	*marks
	points  map[string]bool // mount points in the trees
	mounts  map[string]bool
	dirs    map[fileID]bool
	newMnts []string
	newDirs []fileID
	refused []string // mount points where the kernel refuses permission events
	plain   []string // trees that are plain directories
}

// mark marks all that is in the trees and not marked yet. On an error nothing is
// taken back: see undo.
func (m *marks) mark(trees []string, mounts []mount) (*change, error) {
	c := &change{marks: m, points: map[string]bool{}, mounts: map[string]bool{}, dirs: map[fileID]bool{}}
	var points []string
	points, c.refused = pointsIn(mounts, trees)
	for _, p := range slices.Concat(points, c.refused) {
		c.points[p] = true
	}
	for _, p := range points {
		// Also when it is known: another mount may have taken its place.
		err := unix.FanotifyMark(m.group, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, mountMask, unix.AT_FDCWD, p)
		if errors.Is(err, unix.ENOENT) && !slices.Contains(trees, p) {
			continue // unmounted, or over-mounted at a parent, since the table was read
		}
		if err != nil {
			return c, fmt.Errorf("marking the mount %q: %w", p, err)
		}
		c.mounts[p] = true
		if !m.mounts[p] {
			m.mounts[p] = true
			c.newMnts = append(c.newMnts, p)
		}
	}
	for _, t := range trees {
		if c.points[t] {
			continue
		}
		c.plain = append(c.plain, t)
		if err := c.tree(t); err != nil {
			return c, err
		}
	}
	return c, nil
}

// tree marks a directory by its path, and all directories below it that are on
// the same mount.
func (c *change) tree(path string) error {
	fd, err := openDir(path)
	if err != nil {
		return fmt.Errorf("opening the directory %q: %w", path, explainFD(err))
	}
	return c.directory(fd, path)
}

// directory marks an open directory and those below it, and closes fd. First the
// watch for new directories, then the mark, then the list of what is there
// already: nothing falls between.
func (c *change) directory(fd int, path string) error {
	defer unix.Close(fd)
	if err := c.one(fd, path); err != nil {
		return err
	}
	names, err := subdirectories(fd)
	if err != nil {
		return fmt.Errorf("reading the directory %q: %w", path, err)
	}
	for _, name := range names {
		sub := strings.TrimSuffix(path, "/") + "/" + name
		if c.points[sub] {
			continue // a mount has a mark of its own
		}
		child, err := unix.Openat(fd, name, openDirFlags, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // removed or replaced since
		}
		if err != nil {
			return fmt.Errorf("opening the directory %q: %w", sub, explainFD(err))
		}
		if err := c.directory(child, sub); err != nil {
			return err
		}
	}
	return nil
}

func (c *change) one(fd int, path string) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("looking at the directory %q: %w", path, err)
	}
	id := fileID{st.Dev, st.Ino}
	watch, err := unix.InotifyAddWatch(c.inotify, "/proc/self/fd/"+strconv.Itoa(fd), watchMask&^unix.IN_DONT_FOLLOW)
	if err != nil {
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w: raise fs.inotify.max_user_watches (sysctl), or make the tree a mount of its own (mount --bind DIR DIR)", err)
		}
		return fmt.Errorf("watching the directory %q: %w", path, err)
	}
	// A directory that was removed and another with its recycled inode number
	// have different watches.
	d := c.marks.dirs[id]
	if d == nil || d.watch != watch {
		if err := unix.FanotifyMark(c.group, unix.FAN_MARK_ADD, dirMask, fd, ""); err != nil {
			return fmt.Errorf("marking the directory %q: %w", path, err)
		}
		if d != nil {
			delete(c.watches, d.watch)
		}
		d = &directory{}
		c.marks.dirs[id] = d
		c.newDirs = append(c.newDirs, id)
	}
	d.path, d.watch = path, watch
	c.watches[watch] = id
	c.dirs[id] = true
	return nil
}

// undo takes back what this change has added.
func (c *change) undo() {
	for _, p := range c.newMnts {
		c.dropMount(p)
	}
	for _, id := range c.newDirs {
		c.dropDir(id)
	}
}

// prune removes every mark that this change did not find to be in the trees.
func (c *change) prune() {
	for p := range c.marks.mounts {
		if !c.mounts[p] {
			c.dropMount(p)
		}
	}
	for id := range c.marks.dirs {
		if !c.dirs[id] {
			c.dropDir(id)
		}
	}
}

func (m *marks) dropMount(point string) {
	delete(m.mounts, point)
	// An error means that the mount is gone, and its mark with it. Were another
	// one there now, it would have no mark of ours.
	_ = unix.FanotifyMark(m.group, unix.FAN_MARK_REMOVE|unix.FAN_MARK_MOUNT, mountMask, unix.AT_FDCWD, point)
}

// dropDir removes the mark of a directory. One that was moved out of reach keeps
// its mark in the kernel; its events are out of scope by their path and allowed.
func (m *marks) dropDir(id fileID) {
	d := m.dirs[id]
	delete(m.dirs, id)
	delete(m.watches, d.watch)
	_, _ = unix.InotifyRmWatch(m.inotify, uint32(d.watch)) // EINVAL: gone with the directory
	fd, err := unix.Open(d.path, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && (fileID{st.Dev, st.Ino}) == id {
		_ = unix.FanotifyMark(m.group, unix.FAN_MARK_REMOVE, dirMask, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	}
}

func explainFD(err error) error {
	if errors.Is(err, unix.EMFILE) {
		return fmt.Errorf("%w: raise LimitNOFILE=, each level of a tree needs one", err)
	}
	return err
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

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
	group     int
	inotify   int
	askRemote bool
	closing   *atomic.Bool // a run ends: it may be long
	table     *table       // of the last run

	mounts  map[string]int // the mounts' ids by mount point
	dirs    map[fileID]*directory
	watches map[int]fileID
}

func newMarks(group, inotify int, askRemote bool, closing *atomic.Bool) *marks {
	return &marks{group: group, inotify: inotify, askRemote: askRemote, closing: closing, table: newTable(nil), mounts: map[string]int{}, dirs: map[fileID]*directory{},
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
	gaps    []gap
	plain   map[string]int // trees that are plain directories, and the mounts that they are on
}

// mark marks all that is in the trees and not marked yet. Places that cannot be
// marked are gaps, the root of a tree only when it is none of must. On an error
// nothing is taken back: see undo.
func (m *marks) mark(trees []string, mounts []mount, must []string) (*change, error) {
	m.table = newTable(mounts)
	c := &change{marks: m, points: map[string]bool{}, mounts: map[string]bool{}, dirs: map[fileID]bool{}, plain: map[string]int{}}
	var points []string
	points, c.gaps = m.table.pointsIn(mounts, trees, m.askRemote)
	for _, p := range points {
		c.points[p] = true
	}
	for _, g := range c.gaps {
		c.points[g.path] = true
	}
	for _, p := range points {
		err := c.mount(p)
		root := slices.Contains(trees, p)
		if err == nil || left(err) && !root {
			continue // marked, or unmounted, or over-mounted at a parent, since the table was read
		}
		if ours(err) || slices.Contains(must, p) {
			return c, err
		}
		c.gaps = append(c.gaps, gap{p, explainGap(err)})
	}
	for _, t := range trees {
		if c.points[t] {
			continue
		}
		crossed := m.table.walk(t)
		c.plain[t] = crossed[len(crossed)-1].id
		far, ok := firstRemote(crossed)
		if ok && !m.askRemote {
			c.gaps = append(c.gaps, gap{t, far.whyRemote()})
			continue
		}
		if err := c.tree(t); err != nil {
			if ours(err) || slices.Contains(must, t) {
				return c, err
			}
			c.gaps = append(c.gaps, gap{t, explainGap(err)})
		}
	}
	sortGaps(c.gaps)
	return c, nil
}

func (c *change) mount(point string) error {
	// Also when it is known: another mount may have taken its place.
	fd, id, err := c.openKnown(point)
	if err == nil {
		defer unix.Close(fd)
		err = unix.FanotifyMark(c.group, unix.FAN_MARK_ADD|unix.FAN_MARK_MOUNT, mountMask, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	if err != nil {
		return fmt.Errorf("marking the mount %q: %w", point, explainFD(err))
	}
	c.mounts[point] = true
	if _, known := c.marks.mounts[point]; !known {
		c.newMnts = append(c.newMnts, point)
	}
	c.marks.mounts[point] = id
	return nil
}

// tree marks a directory by its path, and all directories below it that are on
// the same mount.
func (c *change) tree(path string) error {
	at, _, err := c.openKnown(path)
	if err != nil {
		return fmt.Errorf("opening the directory %q: %w", path, explainFD(err))
	}
	fd, err := unix.Openat(at, ".", openDirFlags, 0)
	unix.Close(at)
	if err != nil {
		return fmt.Errorf("opening the directory %q: %w", path, explainFD(err))
	}
	return c.directory(fd, path)
}

// directory marks an open directory and those below it, and closes fd. First the
// watch for new directories, then the mark, then the list of what is there
// already: nothing falls between. What goes wrong below it is a gap, unless it
// would go wrong everywhere.
func (c *change) directory(fd int, path string) error {
	defer unix.Close(fd)
	if c.closing.Load() {
		return ErrClosed
	}
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
		child, err := openChild(fd, name)
		if err == nil {
			err = c.directory(child, sub)
		} else {
			err = fmt.Errorf("opening the directory %q: %w", sub, explainFD(err))
		}
		if err == nil || left(err) {
			continue // marked; or removed, replaced or mounted over since
		}
		if ours(err) {
			return err
		}
		c.gaps = append(c.gaps, gap{sub, explainGap(err)})
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

// dropMount removes the mark of a mount. If that has been unmounted its mark is
// gone, and the path leads to another mount, whose mark must stay. Where to look it
// up might ask a server the mark stays, and its events are out of scope by their path.
func (m *marks) dropMount(point string) {
	id := m.mounts[point]
	delete(m.mounts, point)
	fd, now, err := m.openKnown(point)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if now == id {
		_ = unix.FanotifyMark(m.group, unix.FAN_MARK_REMOVE|unix.FAN_MARK_MOUNT, mountMask, unix.AT_FDCWD, "/proc/self/fd/"+strconv.Itoa(fd))
	}
}

// dropDir removes the mark of a directory. One that was moved out of reach keeps
// its mark in the kernel; its events are out of scope by their path and allowed.
func (m *marks) dropDir(id fileID) {
	d := m.dirs[id]
	delete(m.dirs, id)
	delete(m.watches, d.watch)
	_, _ = unix.InotifyRmWatch(m.inotify, uint32(d.watch)) // EINVAL: gone with the directory
	fd, _, err := m.openKnown(d.path)
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

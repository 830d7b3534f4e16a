// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// watch follows the trees until the backend closes: it marks new directories and
// new mounts. It is the only reader of the inotify descriptor.
func (b *Backend) watch(inotify int) {
	defer b.watching.Done()
	fds := []unix.PollFd{
		{Fd: int32(b.stop), Events: unix.POLLIN},
		{Fd: int32(inotify), Events: unix.POLLIN},
		{Fd: int32(b.mountinfo.Fd()), Events: unix.POLLPRI},
	}
	buf := make([]byte, 64<<10)
	for {
		_, err := unix.Poll(fds, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			b.opts.Logger.Error("watching the trees for new directories stopped; restart the daemon", slog.Any("error", err))
			return
		}
		if err != nil {
			continue
		}
		if fds[0].Revents != 0 {
			return
		}
		rescan := fds[2].Revents != 0 // POLLERR|POLLPRI: the mount table changed
		if fds[1].Revents != 0 {
			rescan = b.appeared(inotify, buf) || rescan
		}
		if rescan {
			b.rescan()
		}
	}
}

// appeared marks the directories that one batch of inotify events tells of. True
// when events were lost and everything has to be looked at.
func (b *Backend) appeared(inotify int, buf []byte) (overflow bool) {
	n, err := unix.Read(inotify, buf)
	if err != nil {
		return false // EAGAIN, EINTR
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	ne := binary.NativeEndian
	for p := buf[:n]; len(p) >= unix.SizeofInotifyEvent; {
		// struct inotify_event: wd, mask, cookie, len, name padded with NULs.
		watch, mask, size := int(int32(ne.Uint32(p))), ne.Uint32(p[4:]), int(ne.Uint32(p[12:]))
		end := unix.SizeofInotifyEvent + size
		if end > len(p) {
			break
		}
		name, _, _ := strings.Cut(string(p[unix.SizeofInotifyEvent:end]), "\x00")
		p = p[end:]
		switch {
		case mask&unix.IN_Q_OVERFLOW != 0:
			overflow = true
		case mask&unix.IN_IGNORED != 0:
			// The directory is gone, and its mark with it.
			if id, ok := b.marks.watches[watch]; ok {
				delete(b.marks.watches, watch)
				if d := b.marks.dirs[id]; d != nil && d.watch == watch {
					delete(b.marks.dirs, id)
				}
			}
		case mask&unix.IN_ISDIR != 0 && name != "":
			if id, ok := b.marks.watches[watch]; ok {
				overflow = b.markNew(strings.TrimSuffix(b.marks.dirs[id].path, "/")+"/"+name) || overflow
			}
		}
	}
	b.publish()
	return overflow
}

// markNew marks a directory that appeared, and all below it. True when the mount
// table has to be looked at first. The lock is held.
func (b *Backend) markNew(path string) (rescan bool) {
	for root, mount := range b.plain {
		if !within(path, root) {
			continue
		}
		c := &change{marks: b.marks, points: b.points, dirs: map[fileID]bool{}}
		fd, err := b.marks.openBelow(root, mount, strings.TrimPrefix(path[len(root):], "/"))
		if err == nil {
			err = c.directory(fd, path)
		}
		b.logNew(c.gaps)
		b.keepGaps(c.gaps)
		if errors.Is(err, errMoved) {
			return true
		}
		if err != nil && !left(err) && !errors.Is(err, ErrClosed) { // left: gone again
			b.counters.watchErrors.Add(1)
			b.opts.Logger.Error("a new directory could not be marked: opens in it are not asked about",
				slog.String("directory", path), slog.Any("error", err))
		}
		return false
	}
	return false // its parent has moved out of the trees
}

// maxNewGaps bounds what is kept of gaps between two scans: who makes directories could
// make any number.
const maxNewGaps = 1024

// keepGaps adds gaps to those of the last scan, until the next one finds them itself.
// The lock is held.
func (b *Backend) keepGaps(gaps []gap) {
	for _, g := range gaps {
		if len(b.gaps) < maxNewGaps && !slices.Contains(b.gaps, g) {
			b.gaps = append(b.gaps, g)
		}
	}
}

// rescan looks at all trees again.
func (b *Backend) rescan() {
	b.mu.Lock()
	defer b.mu.Unlock()
	mounts, err := readMounts(b.mountinfo)
	if err == nil {
		var c *change
		if c, err = b.marks.mark(b.settings.Load().trees, mounts, nil); err == nil {
			b.adopt(c)
			return
		}
	}
	if errors.Is(err, ErrClosed) {
		return
	}
	b.counters.watchErrors.Add(1)
	b.opts.Logger.Error("the trees could not be looked at again: new directories and mounts may not be asked about",
		slog.Any("error", err))
}

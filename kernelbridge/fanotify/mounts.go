// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	id, parent int
	root       string // what of the file system is mounted
	point      string
	fstype     string
}

// readMounts reads mountinfo from its beginning; f is /proc/self/mountinfo.
func readMounts(f *os.File) ([]mount, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("reading the mount table: %w", err)
	}
	return parseMounts(string(text)), nil
}

// parseMounts skips lines that it cannot read: they are the kernel's, and newer.
func parseMounts(text string) []mount {
	var ms []mount
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || dash+1 >= len(f) {
			continue
		}
		id, err := strconv.Atoi(f[0])
		parent, err2 := strconv.Atoi(f[1])
		if err != nil || err2 != nil {
			continue
		}
		ms = append(ms, mount{id: id, parent: parent, root: unescape(f[3]), point: unescape(f[4]), fstype: f[dash+1]})
	}
	return ms
}

// unescape undoes the octal escapes of mountinfo (space, tab, newline, backslash).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// mountID returns the id of the mount that an open file is on, as in mountinfo.
func mountID(fd int) (int, bool) {
	var st unix.Statx_t
	if statxat(fd, selfPath, unix.AT_EMPTY_PATH|unix.AT_STATX_DONT_SYNC, &st) == 0 && st.Mask&unix.STATX_MNT_ID != 0 {
		return int(st.Mnt_id), true
	}
	// Before 5.8, and where nothing at all may be asked of the file system.
	text, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "mnt_id:"); ok {
			id, err := strconv.Atoi(strings.TrimSpace(v))
			return id, err == nil
		}
	}
	return 0, false
}

// table answers, from the mount table alone, what a walk along a path would cross.
type table struct {
	root mount
	on   map[place]mount // what is mounted at a point of a mount
	byID map[int]mount
}

type place struct {
	parent int
	point  string
}

func newTable(mounts []mount) *table {
	t := &table{on: map[place]mount{}, byID: map[int]mount{}}
	for _, m := range mounts {
		t.byID[m.id] = m
		if m.id != m.parent { // the first root file system is its own parent
			t.on[place{m.parent, m.point}] = m
		}
	}
	// The root is on nothing that is in the table. In a chroot that is no mount point it
	// is not in the table itself: then it is what the others are on.
	for _, m := range mounts {
		_, inside := t.byID[m.parent]
		top := m.id == m.parent || !inside
		if top && m.point == "/" {
			t.root = m
			break
		}
		if top && t.root.point == "" {
			t.root = mount{id: m.parent, parent: m.parent, point: "/"}
		}
	}
	t.byID[t.root.id] = t.root
	return t
}

// walk returns the mounts that a walk to an absolute, clean path is in, one after
// the other. The last one is the one that path is on.
func (t *table) walk(path string) []mount {
	at := t.root
	crossed := []mount{at}
	for i := 1; i <= len(path); i++ {
		if i < len(path) && path[i] != '/' && i > 1 {
			continue
		}
		point := path[:i]
		if i == 1 {
			point = "/"
		}
		// Bounded: a mount may be on another at the same point, but in no circle.
		for range len(t.on) {
			m, ok := t.on[place{at.id, point}]
			if !ok {
				break
			}
			at = m
			crossed = append(crossed, m)
		}
	}
	return crossed
}

// pointsIn returns the mount points in the trees, sorted, each once, without those
// where nothing can be asked, and those, with the reasons. Points that a later
// mount has covered are in neither.
func (t *table) pointsIn(mounts []mount, trees []string, askRemote bool) (points []string, gaps []gap) {
	seen := map[string]bool{}
	for _, m := range mounts {
		if seen[m.point] || !slices.ContainsFunc(trees, func(tree string) bool { return within(m.point, tree) }) {
			continue
		}
		crossed := t.walk(m.point)
		last := crossed[len(crossed)-1]
		if last.point != m.point {
			continue
		}
		seen[m.point] = true
		if far, ok := firstRemote(crossed); ok && !askRemote {
			gaps = append(gaps, gap{m.point, far.whyRemote()})
		} else if last.fstype == "proc" {
			gaps = append(gaps, gap{m.point, "the kernel has no permission events on proc"})
		} else {
			points = append(points, m.point)
		}
	}
	slices.Sort(points)
	return points, gaps
}

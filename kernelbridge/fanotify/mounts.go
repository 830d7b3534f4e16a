// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is one line of /proc/self/mountinfo.
type mount struct {
	id     int
	root   string // what of the file system is mounted
	point  string
	fstype string
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
		if err != nil {
			continue
		}
		ms = append(ms, mount{id: id, root: unescape(f[3]), point: unescape(f[4]), fstype: f[dash+1]})
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

// pointsIn returns the mount points in the trees, sorted, each once, without the
// file systems on which the kernel refuses permission events.
func pointsIn(mounts []mount, trees []string) (points, refused []string) {
	for _, m := range mounts {
		for _, t := range trees {
			if !within(m.point, t) {
				continue
			}
			if m.fstype == "proc" {
				refused = append(refused, m.point)
			} else {
				points = append(points, m.point)
			}
			break
		}
	}
	slices.Sort(points)
	slices.Sort(refused)
	return slices.Compact(points), slices.Compact(refused)
}

// cleanTrees checks the trees, sorts them, and leaves out those inside others.
func cleanTrees(trees []string) ([]string, error) {
	var errs []error
	for _, t := range trees {
		if err := checkTree(t); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	sorted := slices.Sorted(slices.Values(trees))
	var out []string
	for _, t := range sorted {
		if !slices.ContainsFunc(out, func(o string) bool { return within(t, o) }) {
			out = append(out, t)
		}
	}
	return out, nil
}

func checkTree(t string) error {
	if !filepath.IsAbs(t) || filepath.Clean(t) != t || strings.ContainsRune(t, 0) {
		return fmt.Errorf("tree %q: give an absolute path, without . and .. and a slash at its end", t)
	}
	for _, own := range []string{"/proc", "/sys"} {
		if within(t, own) {
			return fmt.Errorf("tree %q: the backend itself reads %s for its facts; name a tree outside of it", t, own)
		}
	}
	real, err := filepath.EvalSymlinks(t)
	if err != nil {
		return fmt.Errorf("tree %q: looking it up: %w; create the directory first", t, err)
	}
	if real != t {
		return fmt.Errorf("tree %q: it is or goes through a symbolic link; events carry real paths, so name %q", t, real)
	}
	var st unix.Stat_t
	if err := unix.Lstat(t, &st); err != nil {
		return fmt.Errorf("tree %q: looking at it: %w", t, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("tree %q: it is not a directory; name the directory that holds it", t)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Check says what stands against these trees, as Configure would. It changes nothing
// and waits for no scan.
func (b *Backend) Check(trees []string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("opening the mount table: %w", err)
	}
	defer f.Close()
	mounts, err := readMounts(f)
	if err != nil {
		return err
	}
	_, err = cleanTrees(trees, nil, newTable(mounts), b.opts.AskRemote)
	return err
}

// cleanTrees checks the trees that are not known, sorts all, and leaves out those inside
// others.
func cleanTrees(trees, known []string, t *table, askRemote bool) ([]string, error) {
	var errs []error
	for _, path := range without(trees, known) {
		if err := checkTree(path, t, askRemote); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	sorted := slices.Sorted(slices.Values(trees))
	var out []string
	for _, path := range sorted {
		if !slices.ContainsFunc(out, func(o string) bool { return within(path, o) }) {
			out = append(out, path)
		}
	}
	return out, nil
}

// without returns those of paths that are not in others.
func without(paths, others []string) (left []string) {
	for _, p := range paths {
		if !slices.Contains(others, p) {
			left = append(left, p)
		}
	}
	return left
}

func checkTree(path string, t *table, askRemote bool) error {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return fmt.Errorf("tree %q: give an absolute path, without . and .. and a slash at its end", path)
	}
	for _, own := range []string{"/proc", "/sys"} {
		if within(path, own) {
			return fmt.Errorf("tree %q: the backend itself reads %s for its facts; name a tree outside of it", path, own)
		}
	}
	// Before the path is looked up: that would be a question to the server.
	if far, ok := firstRemote(t.walk(path)); ok && !askRemote {
		return fmt.Errorf("tree %q: it is on the mount %q: %s; or name a tree on a local file system", path, far.point, far.whyRemote())
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("tree %q: looking it up: %w; create the directory first", path, err)
	}
	if real != path {
		return fmt.Errorf("tree %q: it is or goes through a symbolic link; events carry real paths, so name %q", path, real)
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fmt.Errorf("tree %q: looking at it: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("tree %q: it is not a directory; name the directory that holds it", path)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroupNames are the hierarchies of v1 in which a path is looked up, the first one that
// there is: systemd's own has every service, the others where it accounts.
var cgroupNames = []string{"name=systemd", "pids", "memory", "cpu", "devices"}

// cgroupTree is a hierarchy of cgroups.
type cgroupTree struct {
	dir       string // where it is mounted
	hierarchy uint64 // 0: v2
	name      string // its field in /proc/PID/cgroup, empty for v2
}

// FindCgroup looks up the cgroup with a path below the mount point: in v2 where it is
// mounted, else in v1, systemd's hierarchy before those of controllers.
func FindCgroup(path string) (Cgroup, error) {
	tree, err := findCgroups()
	if err != nil {
		return Cgroup{}, err
	}
	return tree.find(path)
}

func (t *cgroupTree) find(path string) (Cgroup, error) {
	var st unix.Stat_t
	if err := unix.Stat(t.dir+"/"+strings.TrimPrefix(path, "/"), &st); err != nil {
		return Cgroup{}, fmt.Errorf("cgroup %q below %s: %w; create it first", path, t.dir, err)
	}
	return Cgroup{st.Ino, t.hierarchy}, nil
}

// of returns the path of the daemon's own cgroup.
func (t *cgroupTree) own() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		id, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if _, path, ok := strings.Cut(rest, ":"); ok && id == fmt.Sprint(t.hierarchy) {
			return path, nil
		}
	}
	return "", errors.New("/proc/self/cgroup does not have it")
}

// findCgroups finds the hierarchy that paths of cgroups are of.
func findCgroups() (*cgroupTree, error) {
	if dir := CgroupRoot(); dir != "" {
		return &cgroupTree{dir: dir}, nil
	}
	none := &UnsupportedError{"a scope by cgroup", "mount the v2 hierarchy: mount -t cgroup2 none /sys/fs/cgroup/unified", nil}
	ids, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		none.Err = err
		return nil, none
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		none.Err = err
		return nil, none
	}
	for _, name := range cgroupNames {
		if t := cgroup1(name, string(ids), string(mounts)); t != nil {
			return t, nil
		}
	}
	return nil, none
}

// cgroup1 finds a hierarchy of v1 by the name of a controller, or its own, in
// /proc/self/cgroup and /proc/self/mountinfo. Nil: it is not mounted whole.
func cgroup1(name, ids, mounts string) *cgroupTree {
	t := &cgroupTree{name: name}
	for line := range strings.Lines(ids) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) == 3 && slices.Contains(strings.Split(f[1], ","), name) {
			t.hierarchy, _ = strconv.ParseUint(f[0], 10, 64)
		}
	}
	for line := range strings.Lines(mounts) {
		before, after, _ := strings.Cut(strings.TrimSpace(line), " - ")
		f, fs := strings.Fields(before), strings.Fields(after)
		if len(f) >= 5 && len(fs) >= 3 && fs[0] == "cgroup" && f[3] == "/" && slices.Contains(strings.Split(fs[2], ","), name) {
			t.dir = f[4]
		}
	}
	if t.hierarchy == 0 || t.dir == "" {
		return nil
	}
	return t
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// cgroupCache maps the id of a cgroup to its ancestry. An id is never reused and
// a cgroup v2 never changes its parent, so entries never go stale.
type cgroupCache struct {
	entries [64]struct {
		id     uint64
		levels [abi.CgroupLevels]uint64
	}
}

// cgroup fills in the ids of the subject's cgroup v2 and its ancestors, level 1
// first; what cannot be known stays 0 and matches no rule.
func (s *Source) cgroup(r *abi.Request) {
	var leaf uint64
	if s.held.infoOK {
		leaf = s.info.Cgroupid
		if e := &s.cgroups.entries[leaf%64]; e.id == leaf && leaf != 0 {
			r.Cgroup = e.levels // Fast path
			return
		}
	}
	if s.b.cgroupDir < 0 {
		return
	}
	text, ok := s.readProc(r.TID, "/cgroup\x00")
	if !ok {
		return
	}
	path := cgroupPath(text)
	if len(path) == 0 || len(path) >= abi.PathBytes {
		return
	}
	var z [abi.PathBytes]byte // one prefix after the other with its NUL; on the stack
	var st unix.Statx_t
	level := 0
	if len(path) == 1 && statxat(s.b.cgroupDir, selfPath, unix.AT_EMPTY_PATH, &st) != 0 {
		return
	}
	for i := 1; i <= len(path) && len(path) > 1; i++ {
		if i < len(path) && path[i] != '/' {
			z[i-1] = path[i]
			continue
		}
		z[i-1] = 0
		if statxat(s.b.cgroupDir, z[:i], 0, &st) != 0 {
			r.Cgroup = [abi.CgroupLevels]uint64{}
			return
		}
		if level < abi.CgroupLevels {
			r.Cgroup[level] = st.Ino
			level++
		}
		z[i-1] = '/'
	}
	// The id is of an earlier moment than the path: the task may have been moved.
	if leaf != 0 && st.Ino == leaf {
		e := &s.cgroups.entries[leaf%64]
		e.id, e.levels = leaf, r.Cgroup
	}
}

// openCgroups returns an O_PATH descriptor of the cgroup v2 hierarchy, -1 when
// none is mounted.
func openCgroups(mounts []mount) int {
	for _, m := range mounts {
		if m.fstype != "cgroup2" || m.root != "/" {
			continue
		}
		fd, err := unix.Open(m.point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == nil {
			return fd
		}
	}
	return -1
}

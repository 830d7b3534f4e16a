// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"strings"
)

// OwnCgroup is where a process that calls it is among the cgroups that rules name.
type OwnCgroup struct {
	Mount string // where the hierarchy is mounted
	Path  string // from below there
	// V2: the hierarchy is that of cgroup v2. One of v1 is named by scopes alone.
	V2 bool
	// Hierarchy is the number that the lines of /proc/PID/cgroup begin with.
	Hierarchy uint64
}

// FindOwnCgroup returns the caller's own cgroup in the hierarchy that FindCgroup looks
// paths up in.
func FindOwnCgroup() (OwnCgroup, error) {
	tree, err := findCgroups()
	if err != nil {
		return OwnCgroup{}, err
	}
	path, err := tree.own()
	if err == nil && strings.HasPrefix(path, "/..") {
		err = errors.New("it is outside of the cgroup namespace")
	}
	if err != nil {
		return OwnCgroup{}, fmt.Errorf("finding one's own cgroup: %w", err)
	}
	return OwnCgroup{Mount: tree.dir, Path: path, V2: tree.hierarchy == 0, Hierarchy: tree.hierarchy}, nil
}

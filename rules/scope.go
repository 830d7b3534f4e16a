// SPDX-License-Identifier: Apache-2.0

package rules

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// Scope says what the rule set is about. A request is arbitrated when it is in
// every dimension that the scope names; a scope that names none is an error.
type Scope struct {
	// Paths are the roots of directory trees, and files, absolute and clean: an object
	// must be in one of them.
	Paths []string
	// Cgroups are cgroup paths below the mount point: the subject must be in one of them
	// or below.
	Cgroups []string
	// UIDs are real user ids: the subject must have one of them.
	UIDs []IDRange
	// Exes are programs, or directories that they lie below: the subject must run one.
	Exes []string
	// Mounts are mount points: an object must be on a file system that is mounted there.
	Mounts []string
	// ProcessTrees are programs: the subject must have executed one of them, or descend
	// from who did.
	ProcessTrees []string
}

// IDRange is First..Last, both included.
type IDRange struct{ First, Last uint32 }

// Mute says what is left alone inside of the scope: a request that is in any dimension
// that it names.
type Mute struct {
	Scope
	// Invert are the names of the dimensions in which only what is named is arbitrated.
	Invert []string
	// Events are those that it is about, nil for all: others are as if there were no mute.
	Events []abi.Event
	// Unmute are the names of the default mutes that do not hold.
	Unmute []string
}

// Mute returns what the rule set leaves alone; it is not to be changed.
func (rs *RuleSet) Mute() Mute { return rs.mute }

// dimensions are the keys of scope and mute.
var dimensions = []string{"paths", "cgroups", "uids", "exes", "mounts", "process_trees"}

// Named returns the keys that the scope has an entry of.
func (s *Scope) Named() (names []string) {
	for i, n := range [...]int{len(s.Paths), len(s.Cgroups), len(s.UIDs), len(s.Exes), len(s.Mounts), len(s.ProcessTrees)} {
		if n > 0 {
			names = append(names, dimensions[i])
		}
	}
	return names
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import "github.com/arbiterd/arbiter/kernelbridge/ring"

// Scope is a set of accesses, by dimension. As the scope of a policy it is what the hooks
// ask about: an access must be in every dimension that is named, so an empty scope asks
// about nothing. Paths are absolute, and looked up once, when the scope is put in force.
type Scope struct {
	// Trees are directories, whose whole trees are meant, and single files: a target of
	// the access must be in one of them. Where there is no target in the file system, and
	// where it is a process, the subject's executable counts.
	Trees []string
	// Cgroups are the subject's; their descendants count too.
	Cgroups []Cgroup
	// UIDs are the subject's real user id.
	UIDs []IDRange
	// Mounts are mount points: a target must be on one of the file systems that are
	// mounted there, wherever else it is mounted too.
	Mounts []string
	// Exes are the subject's executable: files, and directories that it lies below.
	Exes []string
	// ProcessTrees are programs: the subject must have executed one of them, or descend
	// from who did.
	ProcessTrees []string
}

// Mute is what the hooks leave alone inside of the scope: an access that is in any
// dimension that is named.
type Mute struct {
	Scope
	// Invert are the dimensions in which it is the other way round: only what is named
	// there is asked about. Those that the mute does not name are ignored.
	Invert Dimension
	// Events are those that it is about (bit e for event e), 0 for all: others are asked
	// about as if there were no mute.
	Events uint64
	// Unmute are the names of the default mutes that do not hold.
	Unmute []string
}

// Dimension is a set of dimensions.
type Dimension uint32

// The dimensions.
const (
	DimTrees        Dimension = ring.ScopeTrees
	DimCgroups      Dimension = ring.ScopeCgroups
	DimUIDs         Dimension = ring.ScopeUIDs
	DimMounts       Dimension = ring.ScopeMounted
	DimExes         Dimension = ring.ScopeExes
	DimProcessTrees Dimension = ring.ScopeLineage

	dimensions = DimTrees | DimCgroups | DimUIDs | DimMounts | DimExes | DimProcessTrees
)

// Cgroup is a cgroup as the kernel knows it.
type Cgroup struct {
	ID        uint64 // inode number of its directory
	Hierarchy uint64 // first field of /proc/PID/cgroup, 0 for v2
}

// IDRange is First..Last, both included.
type IDRange struct{ First, Last uint32 }

// Limits of one scope or mute. The maps hold two of each, for a moment.
const (
	// maxScope is how many trees, programs, cgroups and mounts there may be, of each.
	maxScope = 1024
	// maxUIDs is how many ranges of user ids.
	maxUIDs = 64
	// maxRoots is how many process trees a scope, its mute and the rules may name together:
	// a mark has a bit for each of those of two.
	maxRoots = 32
	// maxServices is how many cgroups the default mutes may have.
	maxServices = 1024
)

// CheckScope says what stands against a scope and a mute here, with rules that look at these
// process trees. It changes nothing.
func CheckScope(s Scope, m Mute, trees []Program) error {
	_, err := resolve(s, m, trees)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"path"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Access is an access as scope and mute see it.
type Access struct {
	Event          abi.Event
	Object, Detail string // paths, or else no target
	Exe            string // empty: none
	Cgroup         string // below the mount point, empty: not known
	UID            uint32
}

// noTarget are the events whose object is a process.
var noTarget = setOf(abi.EventSignal, abi.EventPtrace)

// Asks reports whether the kernel side would ask about an access, by what scope and mute
// say of names: a cgroup that is not known counts as in the scope and not muted, and
// mounts and process trees are not looked at. Default mutes are not either.
func (rs *RuleSet) Asks(a *Access) bool {
	scope, mute := &rs.scope, &rs.mute
	if len(mute.Events) > 0 && !slices.Contains(mute.Events, a.Event) {
		mute = &Mute{}
	}
	var targets []string
	if strings.HasPrefix(a.Object, "/") && !noTarget.has(a.Event) {
		targets = append(targets, a.Object)
		if pathDetail.has(a.Event) && strings.HasPrefix(a.Detail, "/") {
			targets = append(targets, a.Detail)
		}
	}
	in := func(roots []string) func(string) bool {
		return func(p string) bool { return within(roots, p) }
	}
	passes := func(dim string, named, muted bool, in, left bool) bool {
		return (!named || in) && (!muted || left == slices.Contains(mute.Invert, dim))
	}
	// Without a target the scope looks at the executable, and the mute at nothing.
	paths, left, leaves := slices.ContainsFunc(targets, in(scope.Paths)), false, len(mute.Paths) > 0
	switch {
	case len(targets) == 0:
		paths, leaves = within(scope.Paths, a.Exe), false
	case slices.Contains(mute.Invert, "paths"):
		left = slices.ContainsFunc(targets, in(mute.Paths))
	default:
		left = !slices.ContainsFunc(targets, func(p string) bool { return !within(mute.Paths, p) })
	}
	uid := func(rs []IDRange) bool {
		return slices.ContainsFunc(rs, func(r IDRange) bool { return r.First <= a.UID && a.UID <= r.Last })
	}
	cgroup := path.Clean("/" + a.Cgroup)
	return passes("paths", len(scope.Paths) > 0, leaves, paths, left) &&
		passes("uids", len(scope.UIDs) > 0, len(mute.UIDs) > 0, uid(scope.UIDs), uid(mute.UIDs)) &&
		passes("exes", len(scope.Exes) > 0, len(mute.Exes) > 0, within(scope.Exes, a.Exe), within(mute.Exes, a.Exe)) &&
		(a.Cgroup == "" || passes("cgroups", len(scope.Cgroups) > 0, len(mute.Cgroups) > 0, within(scope.Cgroups, cgroup), within(mute.Cgroups, cgroup)))
}

// within reports whether p is one of the roots or below.
func within(roots []string, p string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return p == root || p != "" && root == "/" || strings.HasPrefix(p, root+"/")
	})
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/ring"
)

// treeKey mirrors struct arb_tree.
type treeKey struct{ Dev, Ino uint64 }

// cgroupKey mirrors struct arb_cgroup_key.
type cgroupKey struct{ ID, Hierarchy uint64 }

// uidRange mirrors struct arb_uid_range.
type uidRange struct{ Lo, Hi uint32 }

// dimKeys is a Scope as the hooks' maps have it.
type dimKeys struct {
	trees, exes, roots []treeKey
	cgroups            []cgroupKey
	uids               []uidRange
	mounted            []uint64 // devices
}

// scopeKeys is a scope and a mute as the hooks' maps have them.
type scopeKeys struct {
	scope, mute dimKeys
	invert      Dimension
	events      uint64 // that the mute is about, 0: all
	unmute      []string
	init        bool               // pid 1 is left alone
	services    []cgroupKey        // default mutes
	ours        []cgroupKey        // our own cgroup
	rules       []treeKey          // the programs of process trees that rules look at
	bits        map[treeKey]uint64 // of all process trees
}

// named returns the dimensions that have an entry.
func (k *dimKeys) named() (d Dimension) {
	for _, dim := range [...]struct {
		bit Dimension
		n   int
	}{{DimTrees, len(k.trees)}, {DimCgroups, len(k.cgroups)}, {DimUIDs, len(k.uids)}, {DimMounts, len(k.mounted)},
		{DimExes, len(k.exes)}, {DimProcessTrees, len(k.roots)}} {
		if dim.n > 0 {
			d |= dim.bit
		}
	}
	return d
}

// word returns the scope word that puts k in force after the given one.
func (k *scopeKeys) word(before uint32) uint32 {
	muted := k.mute.named()
	word := ^before&ring.ScopeParity | (before+ring.ScopeCount)&^(ring.ScopeCount-1) | uint32(k.scope.named()) | uint32(muted)<<ring.ScopeMuted |
		uint32(k.invert&muted)<<ring.ScopeInverted
	if k.init {
		word |= ring.ScopeInit
	}
	if len(k.services)+len(k.ours) > 0 {
		word |= ring.ScopeServices
	}
	for _, list := range [...][]cgroupKey{k.scope.cgroups, k.mute.cgroups, k.services, k.ours} {
		if slices.ContainsFunc(list, func(c cgroupKey) bool { return c.Hierarchy != 0 }) {
			word |= ring.ScopeCgroup1
		}
	}
	return word
}

// roots returns the programs of all process trees.
func (k *scopeKeys) roots() []treeKey { return slices.Concat(k.scope.roots, k.mute.roots, k.rules) }

// distinct returns how many of the roots there are.
func distinct(roots []treeKey) int {
	set := map[treeKey]bool{}
	for _, r := range roots {
		set[r] = true
	}
	return len(set)
}

// resolve looks everything up that a scope and a mute name, beside which rules look at
// process trees. All that is wrong is named at once.
func resolve(s Scope, m Mute, trees []Program) (scopeKeys, error) {
	var r resolver
	keys := scopeKeys{invert: m.Invert, events: m.Events, unmute: m.Unmute, rules: rootsOf(trees)}
	keys.scope = r.dimensions("scope", &s)
	keys.mute = r.dimensions("mute", &m.Scope)
	if n := distinct(keys.roots()); n > maxRoots {
		r.add("scope, mute and rules have %d process trees: name at most %d, for those of two rule sets are in force during a push", n, maxRoots)
	}
	keys.findDefaults()
	return keys, errors.Join(r.errs...)
}

// resolver looks things up and collects what is wrong.
type resolver struct {
	mounts map[uint64]uint64 // device of a mount by its id, as in mountinfo
	errs   []error
}

func (r *resolver) add(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

func (r *resolver) dimensions(what string, s *Scope) dimKeys {
	for _, dim := range [...]struct {
		name string
		n    int
		max  int
		hint string
	}{{"paths", len(s.Trees), maxScope, "; a directory stands for all below it"}, {"exes", len(s.Exes), maxScope, "; a directory stands for all below it"},
		{"cgroups", len(s.Cgroups), maxScope, "; a cgroup stands for all below it"}, {"mounts", len(s.Mounts), maxScope, ""},
		{"ranges of uids", len(s.UIDs), maxUIDs, ""}} {
		if dim.n > dim.max {
			r.add("a %s of %d %s: name at most %d%s", what, dim.n, dim.name, dim.max, dim.hint)
		}
	}
	var keys dimKeys
	for _, path := range s.Trees {
		if f, ok := r.file(what+" path", path, "create the directory"); ok {
			keys.trees = append(keys.trees, f.key)
		}
	}
	for _, path := range s.Exes {
		if f, ok := r.file(what+" exe", path, "install the program"); ok {
			keys.exes = append(keys.exes, f.key)
		}
	}
	for _, path := range s.ProcessTrees {
		switch f, ok := r.file(what+" process tree", path, "install the program"); {
		case ok && f.mode&unix.S_IFMT != unix.S_IFREG:
			r.add("%s process tree %q: %w", what, path, errNoProgram)
		case ok:
			keys.roots = append(keys.roots, f.key)
		}
	}
	for _, path := range s.Mounts {
		switch f, ok := r.file(what+" mount", path, "mount the file system"); {
		case ok && !f.mountRoot:
			r.add("%s mount %q: nothing is mounted there; mount the file system first, or name the directory in paths", what, path)
		case ok:
			keys.mounted = append(keys.mounted, f.key.Dev)
		}
	}
	for _, c := range s.Cgroups {
		keys.cgroups = append(keys.cgroups, cgroupKey(c))
	}
	for _, u := range s.UIDs {
		keys.uids = append(keys.uids, uidRange{u.First, u.Last})
	}
	return keys
}

func (r *resolver) file(what, path, hint string) (file, bool) {
	f, err := r.identify(path)
	if err != nil {
		of, _, _ := strings.Cut(what, " ")
		r.add("%s %q: %w; %s or take it out of the %s", what, path, err, hint, of)
	}
	return f, err == nil
}

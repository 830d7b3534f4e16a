// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/arbiterd/arbiter/arbiter/control"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

// checkLSMScope says what stands against the scope and the mute of a rule set on BPF LSM.
func checkLSMScope(rs *rules.RuleSet) error {
	scope, err := lsmScope("scope", rs.Scope())
	mute, noMute := lsmMute(rs.Mute())
	return errors.Join(err, noMute, kernelbridge.CheckScope(scope, mute, programsOf(rs)))
}

// lsmScope looks up what is the daemon's to look up; what is the key in the rule file.
func lsmScope(what string, s rules.Scope) (kernelbridge.Scope, error) {
	scope := kernelbridge.Scope{Trees: s.Paths, Exes: s.Exes, Mounts: s.Mounts, ProcessTrees: s.ProcessTrees}
	for _, r := range s.UIDs {
		scope.UIDs = append(scope.UIDs, kernelbridge.IDRange(r))
	}
	var errs []error
	for _, path := range s.Cgroups {
		c, err := kernelbridge.FindCgroup(path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
			continue
		}
		scope.Cgroups = append(scope.Cgroups, c)
	}
	return scope, errors.Join(errs...)
}

// dimensionsOf are the kernel side's dimensions by their keys in a rule file.
var dimensionsOf = map[string]kernelbridge.Dimension{
	"paths": kernelbridge.DimTrees, "cgroups": kernelbridge.DimCgroups, "uids": kernelbridge.DimUIDs,
	"exes": kernelbridge.DimExes, "mounts": kernelbridge.DimMounts, "process_trees": kernelbridge.DimProcessTrees,
}

func lsmMute(m rules.Mute) (kernelbridge.Mute, error) {
	scope, err := lsmScope("mute", m.Scope)
	mute := kernelbridge.Mute{Scope: scope, Unmute: m.Unmute, Events: bitsOf(m.Events)}
	for _, name := range m.Invert {
		mute.Invert |= dimensionsOf[name]
	}
	return mute, err
}

// mutes implements backend.
func (b *lsmBackend) mutes() (out []control.DefaultMute) {
	for _, m := range b.lsm.Mutes() {
		d := control.DefaultMute{Name: m.Name, What: m.What, InForce: m.InForce, Why: m.Why}
		if len(m.Cgroups) > 0 {
			d.What += ": " + strings.Join(m.Cgroups, ", ")
		}
		out = append(out, d)
	}
	return out
}

// mutes implements backend: fanotify exempts the daemon and its guard alone.
func (b *fanotifyBackend) mutes() []control.DefaultMute { return nil }

// instead says what to write where fanotify cannot have a dimension of the scope.
var instead = map[string]string{
	"cgroups":       "match by subject.cgroup instead",
	"uids":          "match by subject.uid instead",
	"exes":          "match by subject.exe instead",
	"mounts":        "name the directories in scope.paths instead",
	"process_trees": "it needs a kernel with BPF LSM",
}

// checkFanotifyScope says what fanotify cannot have of a scope and a mute.
func checkFanotifyScope(rs *rules.RuleSet) error {
	scope, mute := rs.Scope(), rs.Mute()
	var errs []error
	if len(scope.Paths) == 0 {
		errs = append(errs, errors.New("scope: fanotify holds accesses to directory trees only: name at least one in scope.paths"))
	}
	for _, name := range scope.Named() {
		if name != "paths" {
			errs = append(errs, fmt.Errorf("scope: fanotify cannot limit the scope to %s: take scope.%s out; %s", name, name, instead[name]))
		}
	}
	for _, name := range mute.Named() {
		errs = append(errs, fmt.Errorf("mute: fanotify cannot leave %s alone: take mute.%s out, and write a rule that allows before the others instead", name, name))
	}
	if len(mute.Unmute) > 0 {
		errs = append(errs, errors.New("mute: fanotify has no default mutes: take mute.unmute out"))
	}
	return errors.Join(errs...)
}

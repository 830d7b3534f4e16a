// SPDX-License-Identifier: Apache-2.0

package main

import (
	"reflect"
	"strings"
	"testing"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

func scoped(t *testing.T, text string) *rules.RuleSet {
	t.Helper()
	rs, err := rules.Load("r", []byte("version: 1\ndefault: allow\n"+text+"\n"), rules.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

// What fanotify cannot have of a scope is refused with its place and what to write
// instead, all of it at once.
func TestFanotifyScope(t *testing.T) {
	if err := checkFanotifyScope(scoped(t, "scope: {paths: [/t]}")); err != nil {
		t.Errorf("paths alone: %v", err)
	}
	err := checkFanotifyScope(scoped(t, "scope: {cgroups: [/a], uids: [1], exes: [/a], mounts: [/a], process_trees: [/a]}\n"+
		"mute: {paths: [/a], cgroups: [/a], uids: [1], exes: [/a], mounts: [/a], process_trees: [/a], unmute: [init]}"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"name at least one in scope.paths",
		"take scope.cgroups out; match by subject.cgroup instead", "take scope.uids out; match by subject.uid instead", "take scope.exes out; match by subject.exe instead",
		"take scope.mounts out; name the directories in scope.paths", "take scope.process_trees out; it needs a kernel with BPF LSM",
		"take mute.paths out", "take mute.cgroups out", "take mute.uids out", "take mute.exes out", "take mute.mounts out", "take mute.process_trees out", "take mute.unmute out"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not have %q: %v", want, err)
		}
	}
}

// Every key of scope and mute reaches the kernel side.
func TestLSMScopeOfRules(t *testing.T) {
	rs := scoped(t, "scope: {paths: [/a], uids: [1-2], exes: [/b], mounts: [/c], process_trees: [/d]}\n"+
		"mute: {paths: [/e], uids: [3], exes: [/f], mounts: [/g], process_trees: [/h], invert: [paths, uids, exes, mounts, process_trees], events: [open, rename], unmute: [dbus]}")
	scope, err := lsmScope("scope", rs.Scope())
	if err != nil {
		t.Fatal(err)
	}
	want := kernelbridge.Scope{Trees: []string{"/a"}, UIDs: []kernelbridge.IDRange{{First: 1, Last: 2}}, Exes: []string{"/b"}, Mounts: []string{"/c"}, ProcessTrees: []string{"/d"}}
	if !reflect.DeepEqual(scope, want) {
		t.Errorf("scope %+v, want %+v", scope, want)
	}
	mute, err := lsmMute(rs.Mute())
	if err != nil {
		t.Fatal(err)
	}
	wantMute := kernelbridge.Mute{
		Scope:  kernelbridge.Scope{Trees: []string{"/e"}, UIDs: []kernelbridge.IDRange{{First: 3, Last: 3}}, Exes: []string{"/f"}, Mounts: []string{"/g"}, ProcessTrees: []string{"/h"}},
		Invert: kernelbridge.DimTrees | kernelbridge.DimUIDs | kernelbridge.DimExes | kernelbridge.DimMounts | kernelbridge.DimProcessTrees,
		Events: 1<<abi.EventOpen | 1<<abi.EventRename,
		Unmute: []string{"dbus"}}
	if !reflect.DeepEqual(mute, wantMute) {
		t.Errorf("mute %+v, want %+v", mute, wantMute)
	}
	if _, err := lsmScope("mute", scoped(t, "scope: {cgroups: [/arbiter/none]}").Scope()); err == nil || !strings.HasPrefix(err.Error(), "mute: ") {
		t.Errorf("a cgroup that is not there: %v, want an error with the place", err)
	}
	if len(dimensionsOf) != len(strings.Fields("paths cgroups uids exes mounts process_trees")) || dimensionsOf["cgroups"] != kernelbridge.DimCgroups {
		t.Errorf("the dimensions are %v", dimensionsOf)
	}
}

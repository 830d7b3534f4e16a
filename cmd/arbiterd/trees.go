// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

// findProgram looks up what a process tree is named by, as rules.Options wants it.
func findProgram(path string) (dev, ino uint64, err error) {
	p, err := kernelbridge.FindProgram(path)
	return p.Dev, p.Ino, err
}

// programsOf returns what the process trees that the rules name were looked up as.
func programsOf(rs *rules.RuleSet) (out []kernelbridge.Program) {
	for _, t := range rs.Trees() {
		out = append(out, kernelbridge.Program{Dev: t.Dev, Ino: t.Ino})
	}
	return out
}

// union returns all of a, and those of b that are not among them.
func union(a, b []kernelbridge.Program) []kernelbridge.Program {
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// checkFanotifyTrees says that fanotify knows no process trees.
func checkFanotifyTrees(rs *rules.RuleSet) error {
	if len(rs.Trees()) == 0 {
		return nil
	}
	var paths []string
	for _, t := range rs.Trees() {
		paths = append(paths, fmt.Sprintf("%q", t.Path))
	}
	return fmt.Errorf("rules: fanotify cannot tell who descends from %s: take subject.process_tree out, and match by subject.cgroup instead; it needs a kernel with BPF LSM",
		strings.Join(paths, ", "))
}

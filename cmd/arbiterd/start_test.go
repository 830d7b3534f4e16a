// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestStoredRulesThatCannotBeKept: the daemon starts, holds nothing, says so, and takes
// a set that can be kept; the stored one is in force again when its scope is back.
func TestStoredRulesThatCannotBeKept(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.stop()
	away := dir + "/away"
	if err := os.Rename(d.tree, away); err != nil {
		t.Fatal(err)
	}

	d = startDaemon(t, dir)
	s := d.status()
	if s.Epoch != 0 || len(s.GetScope().GetPaths()) != 0 || !strings.Contains(strings.Join(s.Warnings, "\n"), "epoch 1 is not in force") {
		t.Errorf("epoch %d, scope %q, warnings %q; want 0, nothing, one about epoch 1", s.Epoch, s.GetScope().GetPaths(), s.Warnings)
	}
	d.stop()

	if err := os.Rename(away, d.tree); err != nil {
		t.Fatal(err)
	}
	d = startDaemon(t, dir)
	if s := d.status(); s.Epoch != 1 || len(s.Warnings) != 0 {
		t.Errorf("with the tree back: epoch %d, warnings %q; want 1 and none", s.Epoch, s.Warnings)
	}
	d.soon(unix.EPERM, "bad")
}

// TestPushWarns: a push says what fanotify cannot keep of the very set that is pushed.
func TestPushWarns(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--backend", "fanotify")
	got := strings.Join(d.push("deadline: 30s\n"+ruleText(dir, "EACCES")).Warnings, "\n")
	for _, want := range []string{"EPERM", d.tree, "deadline of the file: longer than 5s (hold_limit)"} {
		if !strings.Contains(got, want) {
			t.Errorf("warnings %q, want something about %s", got, want)
		}
	}
}

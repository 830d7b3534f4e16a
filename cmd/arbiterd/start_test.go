// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"slices"
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
	if s := d.status(); s.Epoch != 1 || strings.Contains(strings.Join(s.Warnings, "\n"), "not in force") {
		t.Errorf("with the tree back: epoch %d, warnings %q; want 1 and none about it", s.Epoch, s.Warnings)
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

// TestWarningsStay: what a push warned of is in status, after a restart too, and in the
// log of the start.
func TestWarningsStay(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--backend", "fanotify")
	told := d.push(ruleText(dir, "EACCES")).Warnings
	if len(told) == 0 {
		t.Fatal("the push does not warn")
	}
	if got := d.status().Warnings; !slices.Equal(got, told) {
		t.Errorf("status warns of %q, want what the push told: %q", got, told)
	}
	d.stop()
	d = startDaemon(t, dir, "--backend", "fanotify")
	if got := d.status().Warnings; !slices.Equal(got, told) {
		t.Errorf("after a restart status warns of %q, want %q", got, told)
	}
	if log := d.log.String(); !strings.Contains(log, "every refusal reads EPERM") {
		t.Errorf("the log does not say so: %s", log)
	}
}

// TestHangupAfterEmergencyPush: a SIGHUP for the verdict log does not take back what was
// pushed by hand; a changed file is pushed.
func TestHangupAfterEmergencyPush(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	file := dir + "/rules.yaml"
	text := ruleText(dir, "EACCES")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	d := startDaemon(t, dir, "--rules", file)
	d.push(strings.Replace(text, "/tree/bad", "/tree/good", 1))
	hangup := func(want string, times int) {
		t.Helper()
		d.cmd.Process.Signal(unix.SIGHUP)
		d.until(want, func() bool { return strings.Count(d.log.String(), want) == times })
	}
	hangup("unchanged: not pushed", 1)
	if s := d.status(); s.Epoch != 2 {
		t.Errorf("epoch %d after a SIGHUP with the file as it was, want 2: the push by hand", s.Epoch)
	}
	write(text + "# changed\n")
	hangup("reloaded the rule file", 1)
	if s := d.status(); s.Epoch != 3 {
		t.Errorf("epoch %d after a SIGHUP with a changed file, want 3", s.Epoch)
	}
	write("nonsense\n")
	hangup("the rules in force stay", 1)
	hangup("the rules in force stay", 2) // tried again: nothing else was pushed
	d.push(text)
	hangup("unchanged: not pushed", 2)
	d.stop()

	// With a filled store the file is compared and not pushed.
	differs := "the rule file says otherwise"
	for _, tc := range []struct {
		name, text string
		want       bool
	}{{"as in force, with a comment", text + "# other\n", false}, {"other rules", strings.Replace(text, "/tree/bad", "/tree/good", 1), true}} {
		write(tc.text)
		d = startDaemon(t, dir, "--rules", file)
		if got := strings.Contains(strings.Join(d.status().Warnings, "\n"), differs); got != tc.want {
			t.Errorf("%s: warnings %q, want one about the file: %v", tc.name, d.status().Warnings, tc.want)
		}
		if got := strings.Contains(d.log.String(), differs); got != tc.want {
			t.Errorf("%s: want a line about the file: %v; the log:\n%s", tc.name, tc.want, d.log)
		}
		hangup("unchanged: not pushed", 1)
		if s := d.status(); s.Epoch != 4 {
			t.Errorf("%s: epoch %d, want 4: the one of the store", tc.name, s.Epoch)
		}
		if tc.want {
			d.push(tc.text)
			if got := strings.Join(d.status().Warnings, "\n"); strings.Contains(got, differs) {
				t.Errorf("after the push of the file: warnings %q", got)
			}
		}
		d.stop()
	}
}

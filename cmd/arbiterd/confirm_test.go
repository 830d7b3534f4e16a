// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// pushFor pushes rules that nobody will confirm.
func (d *runs) pushFor(long time.Duration, text string) {
	d.t.Helper()
	if _, err := pb.NewRulesServiceClient(d.conn).Push(d.t.Context(), &pb.PushRequest{Source: []byte(text), Name: "test.yaml", ConfirmWithin: durationpb.New(long)}); err != nil {
		d.t.Fatal(err)
	}
}

// The first rules of all that nobody confirms: nothing is arbitrated again.
func TestUnconfirmedFirstRules(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.pushFor(2*time.Second, ruleText(dir, "EACCES"))
	d.until("no rules", func() bool { s := d.status(); return s.Epoch == 0 && s.Pending == nil }) // the workers first, then the kernel side
	if s := d.status(); strings.Contains(strings.Join(s.Warnings, " "), "taken back") {
		t.Errorf("warnings %q, want none of a way back", s.Warnings)
	}
	if got := d.try("bad"); got != 0 {
		t.Errorf("an exec after the time is over: %v, want success", got)
	}
	d.push(ruleText(dir, "EACCES"))
	d.soon(unix.EPERM, "bad")
}

// The rules before are about a tree that has gone by then: nothing is arbitrated, and
// status says so.
func TestUnconfirmedAndNoWayBack(t *testing.T) {
	dir := newTree(t)
	other := dir + "/other"
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir)
	d.push("version: 1\ndefault: allow\nscope: {paths: [" + other + "]}\n")
	d.pushFor(2*time.Second, ruleText(dir, "EACCES"))
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	d.until("that nothing is arbitrated", func() bool {
		s := d.status()
		return s.Epoch == 0 && strings.Contains(strings.Join(s.Warnings, " "), "nothing is arbitrated: push rules")
	})
	if got := d.try("bad"); got != 0 {
		t.Errorf("an exec after the time is over: %v, want success", got)
	}
}

// A restart within the time: the set before is in force, and nothing is to be repaired.
func TestUnconfirmedRestart(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.pushFor(time.Hour, "version: 1\ndefault: allow\nscope: {paths: ["+dir+"/tree]}\n")
	d.stop()
	d = startDaemon(t, dir)
	if s := d.status(); s.Epoch != 1 || s.Pending != nil || len(s.GetStore().GetIncidents()) != 0 {
		t.Errorf("epoch %d, pending %v, incidents %v; want 1 and neither", s.Epoch, s.Pending, s.GetStore().GetIncidents())
	}
	d.soon(unix.EPERM, "bad")
}

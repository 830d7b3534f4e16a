// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// Locked rules stay through pushes and reloads, and the lock ends with the process: by a
// restart, or when another daemon takes over.
func TestLockedRules(t *testing.T) {
	notInGuest(t)
	dir := newTree(t)
	file, text := dir+"/rules.yaml", ruleText(dir, "EACCES")
	changed := strings.Replace(text, "/tree/bad", "/tree/good", 1)
	writeFile(t, file, []byte(text))
	d := startDaemon(t, dir, "--rules", file)
	lock := func(d *runs) {
		t.Helper()
		if _, err := pb.NewRulesServiceClient(d.conn).Lock(t.Context(), &pb.LockRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := d.pushSigned(changed, nil); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "until arbiterd is restarted") {
			t.Errorf("a push to locked rules: %v, want FAILED_PRECONDITION and what ends it", err)
		}
	}
	lock(d)
	writeFile(t, file, []byte(changed))
	d.hangup("reloading the rule file; the rules in force stay")
	d.hangup("reloading the rule file; the rules in force stay") // it is still to be done
	if s := d.status(); s.Epoch != 1 || s.Lock == nil {
		t.Errorf("epoch %d, lock %v after a reload; want 1, locked", s.Epoch, s.Lock)
	}
	d.soon(unix.EPERM, "bad")

	next := successor(t, dir, "--rules", file)
	d.ended()
	if s := next.status(); s.Epoch != 1 || s.Lock != nil {
		t.Errorf("epoch %d, lock %v after another daemon took over; want 1, not locked", s.Epoch, s.Lock)
	}
	lock(next)
	next.stop()
	d = startDaemon(t, dir, "--rules", file)
	if s := d.status(); s.Epoch != 1 || s.Lock != nil {
		t.Errorf("epoch %d, lock %v after a restart; want 1, not locked", s.Epoch, s.Lock)
	}
	d.push(changed)
	d.soon(unix.EPERM, "good")
}

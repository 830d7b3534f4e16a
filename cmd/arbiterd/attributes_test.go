// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

const attributeRules = `version: 1
default: allow
scope: {paths: [%[1]q]}
rules:
  - id: setuid
    events: [exec]
    object: {mode: {any: [setuid, setgid]}}
    verdict: {deny: EPERM}
  - id: anybody-writes
    events: [exec]
    object: {mode: {any: [group_write, other_write]}}
    verdict: {deny: EPERM}
  - id: not-of-root
    events: [exec]
    not: {object: {owner: 0, group: 0}}
    verdict: {deny: EPERM}
`

// Who owns a program, and who may write to it, decides on each backend, and at once when that changes.
func TestAttributesOfExecs(t *testing.T) {
	backends := []string{kernelbridge.BackendFanotify}
	if inGuest() {
		backends = append(backends, kernelbridge.BackendLSM)
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			d := startDaemon(t, newTree(t), "--backend", backend)
			d.push(fmt.Sprintf(attributeRules, d.tree))
			events := d.watch()
			good := d.tree + "/good"
			for _, tc := range []struct {
				uid, gid int
				mode     os.FileMode
				want     unix.Errno
				rule     string // that refuses
			}{
				{0, 0, 0o755, 0, ""},
				{0, 0, 0o755 | os.ModeSetuid, unix.EPERM, "setuid 0:0:0o4755"},
				{0, 0, 0o755 | os.ModeSetgid, unix.EPERM, "setuid 0:0:0o2755"},
				{0, 0, 0o757, unix.EPERM, "anybody-writes 0:0:0o757"},
				{1, 0, 0o755, unix.EPERM, "not-of-root 1:0:0o755"},
				{0, 2, 0o755, unix.EPERM, "not-of-root 0:2:0o755"},
				{0, 0, 0o755, 0, ""},
			} {
				if err := os.Chown(good, tc.uid, tc.gid); err != nil {
					t.Fatal(err)
				}
				if err := os.Chmod(good, tc.mode); err != nil {
					t.Fatal(err)
				}
				if d.soon(tc.want, "good"); tc.rule == "" {
					continue
				}
				var rule string
				_, _ = fmt.Sscan(tc.rule, &rule)
				if e := d.await(events, "exec deny "+rule+" "+good); rule+" "+e.Object.Attributes != tc.rule {
					t.Errorf("the record has %s, want %s", rule+" "+e.Object.Attributes, tc.rule)
				}
			}
			d.stop()
		})
	}
}

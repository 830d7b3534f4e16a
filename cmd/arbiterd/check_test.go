// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// TestDryRunOfAScope: a dry run says what stands against a scope path on fanotify, not
// only the push does.
func TestDryRunOfAScope(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir, "--backend", "fanotify")
	if err := os.Symlink(d.tree, dir+"/link"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for path, want := range map[string]string{dir + "/tree": "", dir + "/link": "symbolic link", dir + "/none": "create the directory", dir + "/s": "not a directory"} {
		text := strings.ReplaceAll(ruleText(dir, "EACCES"), dir+"/tree", path)
		_, err := pb.NewRulesServiceClient(d.conn).Push(ctx, &pb.PushRequest{Source: []byte(text), Name: "test.yaml", DryRun: true})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want an error with %q", path, err, want)
		}
	}
}

// TestPushWhenTheOldScopeIsGone: what has become of the old scope keeps no new set out.
func TestPushWhenTheOldScopeIsGone(t *testing.T) {
	backends := []string{"fanotify"}
	if inGuest() {
		backends = append(backends, "bpf-lsm")
	}
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			dir := newTree(t)
			d := startDaemon(t, dir, "--backend", backend)
			d.push(ruleText(dir, "EACCES"))
			if err := os.Rename(d.tree, dir+"/away"); err != nil {
				t.Fatal(err)
			}
			text := strings.ReplaceAll(ruleText(dir, "EACCES"), dir+"/tree", dir+"/away")
			d.push(strings.Replace(text, "    object:", "    subject: {uid: 0}\n    object:", 1)) // more facts than before
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/arbiter/compiler"
)

// largeRules returns rules that are compiled in a process of their own. They refuse the
// execution of the daemon's program, and give secret a verdict.
func largeRules(t *testing.T, dir, verdict string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\ndefault: allow\nscope: {paths: [%q, %q]}\nrules:\n", dir+"/tree", filepath.Dir(self))
	fmt.Fprintf(&b, "- {id: secret, events: [open], object: {path: %q}, verdict: %s}\n", dir+"/tree/secret", verdict)
	fmt.Fprintf(&b, "- {id: no-daemon, events: [exec], object: {path: %q}, verdict: deny}\n", self)
	for i := 0; b.Len() <= compiler.From; i++ {
		fmt.Fprintf(&b, "- {id: r%d, events: [open], object: {path: {prefix: %q}}, verdict: {deny: ENOENT}}\n", i, fmt.Sprintf("%s/tree/none/%d/", dir, i))
	}
	return b.String()
}

// TestLargeRules: no rule in force keeps larger ones from being compiled beside the daemon.
func TestLargeRules(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	d.push(largeRules(t, dir, "deny"))
	d.soon(unix.EPERM, "good", dir+"/tree/secret")
	d.push(largeRules(t, dir, "allow"))
	d.soon(0, "good", dir+"/tree/secret")
	if strings.Contains(d.log.String(), "compiling a large rule file in the daemon itself") {
		t.Errorf("the daemon compiled the rules itself; it says:\n%s", d.log)
	}
}

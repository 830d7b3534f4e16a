// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// An allow that may be kept is given again by the kernel, and asked about anew when
// anything has changed that it was made from.
func TestLSMCache(t *testing.T) {
	spec, err := LoadBTF("")
	if err != nil {
		t.Fatal(err)
	}
	if missing := capabilities(spec).sleep; missing != "" {
		t.Skipf("verdicts cannot be kept here: %s", missing) // the same kernels: since 6.11 and 6.12
	}
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	mustMkdir(t, tree+"/dir", tree+"/mnt")
	for _, dir := range []string{filepath.Dir(tree), tree, tree + "/dir"} { // for another user, below
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := tree + "/dir/file"
	mustWrite(t, path, []byte("x"), 0o644)
	mustWrite(t, tree+"/dir/two", []byte("x"), 0o644)
	if err := os.Link(tree+"/dir/two", tree+"/dir/names"); err != nil {
		t.Fatal(err)
	}
	p := policyAll([abi.EventCount]abi.Verdict{})
	for e := range p.Keep {
		p.Keep[e] = abi.FieldKeep | abi.FieldPath | abi.FieldAccess | abi.FieldUID
	}
	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/dir/denied": unix.EXDEV})
	w.keep = true
	mustWrite(t, tree+"/dir/denied", []byte("x"), 0o644)
	c := startChild(t)
	settle := func() {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		await(t, "settled file", func() bool { return time.Now().Unix() > st.Ctim.Sec+3 })
	}
	// open opens twice and wants that both, the first, or none are asked about.
	open := func(name, path, want string, asked int) {
		t.Helper()
		w.take()
		for range 2 {
			if got := c.do("read", path); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if got := w.take(); len(got) != asked {
			t.Errorf("%s: asked %q, want %d questions of 2 opens", name, got, asked)
		}
	}

	open("a file that has just changed", path, "ok", 2)
	settle()
	open("a settled file", path, "ok", 1)
	open("a settled file again", path, "ok", 0)
	open("a refused file", tree+"/dir/denied", "EXDEV", 2)
	open("a file with two names", tree+"/dir/names", "ok", 2)

	if err := b.Configure(Scope{Trees: []string{tree}}, p); err != nil {
		t.Fatal(err)
	}
	open("after a push", path, "ok", 1)
	b.Watch(true)
	b.Watch(false)
	open("after somebody has watched", path, "ok", 1)

	for _, step := range []struct {
		name string
		do   func() error
		path string
	}{
		{"the directory renamed", func() error { return os.Rename(tree+"/dir", tree+"/moved") }, tree + "/moved/file"},
		{"and back", func() error { return os.Rename(tree+"/moved", tree+"/dir") }, path},
		{"seen through a bind mount", func() error { return unix.Mount(tree+"/dir", tree+"/mnt", "", unix.MS_BIND, "") }, tree + "/mnt/file"},
		{"that gone", func() error { return unix.Unmount(tree+"/mnt", 0) }, path},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		open(step.name, step.path, "ok", 1)
	}

	w.take()
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	open("while it is open for writing", path, "ok", 2)
	writer.Close()
	if err := os.Link(path, tree+"/dir/other"); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	path = tree + "/dir/other"
	open("another name by link and unlink", path, "ok", 2)
	settle()
	open("settled again", path, "ok", 1)
	if err := os.WriteFile(path, []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	open("other contents", path, "ok", 2)
	settle()
	open("settled once more", path, "ok", 1)
	if got := c.do("setuid", "1000"); got != "ok" {
		t.Fatalf("setuid: %s", got)
	}
	open("another user", path, "ok", 1)

	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Cached == 0 || counts.Asked != counts.Cached+counts.Answered {
		t.Errorf("counts %+v, want some cached, and asked = cached + answered", counts)
	}
}

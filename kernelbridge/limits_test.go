// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// TestLSMLimits shows what docs/limitations.md says of this backend: by which ways a
// file of the tree is reached without a question, or with another path than the rules
// name. A way that is closed one day fails here, and the document changes with it.
func TestLSMLimits(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	dir := t.TempDir()
	tree, outside, whole, part := dir+"/tree", dir+"/outside", dir+"/whole", dir+"/part"
	mustMkdir(t, tree+"/sub", outside, whole, part)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	mustWrite(t, tree+"/program", self, 0o755)
	mustWrite(t, tree+"/sub/file", []byte("x"), 0o644)
	for from, to := range map[string]string{tree: whole, tree + "/sub": part} {
		if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(to, unix.MNT_DETACH) })
	}
	if err := os.Link(tree+"/sub/file", outside+"/link"); err != nil {
		t.Fatal(err)
	}
	w := startWorker(t, b, map[string]unix.Errno{"open " + tree + "/sub/born": unix.EACCES})
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)

	for _, tc := range []struct {
		name, root, verb, path, want string
		asked                        []string // beginnings
	}{
		{"a hard link outside", "", "read", outside + "/link", "ok", nil},
		{"the tree, mounted elsewhere", "", "read", whole + "/sub/file", "ok", []string{"open " + whole + "/sub/file "}},
		{"a part of the tree, mounted elsewhere", "", "read", part + "/file", "ok", nil},
		{"a refused create leaves the file", "", "create", tree + "/sub/born", "EACCES", []string{"open " + tree + "/sub/born "}},
		{"behind chroot", tree, "read", "/sub/file", "ok", []string{"exec /program ", "open /sub/file "}},
		{"a path descriptor", "", "path", tree + "/sub/file", "ok", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			// The exec is made where this thread runs: not on the worker's CPU, where
			// the only worker could not answer it.
			runtime.LockOSThread() // never unlocked: the thread ends with its affinity
			var set unix.CPUSet
			set.Set(0)
			if err := unix.SchedSetaffinity(0, &set); err != nil {
				t.Fatal(err)
			}
			w.take()
			cmd := exec.Command("/proc/self/exe", "serve")
			cmd.Env = append(os.Environ(), subjectEnv+"=1")
			do, want := tc.verb+" "+tc.path+"\n", tc.want
			if tc.root != "" {
				do, want = "chroot "+tc.root+"\nexec /program\n"+do, "ok\nok\n"+want
			}
			cmd.Stdin = strings.NewReader(do)
			out, err := cmd.Output()
			if got := strings.TrimSpace(string(out)); err != nil || got != want {
				t.Fatalf("%s %s: %q, %v; want %s; asked %q", tc.verb, tc.path, got, err, tc.want, w.take())
			}
			asked := w.take()
			ok := len(asked) == len(tc.asked)
			for i := 0; ok && i < len(asked); i++ {
				ok = strings.HasPrefix(asked[i], tc.asked[i])
			}
			if !ok {
				t.Errorf("asked %q, want %q", asked, tc.asked)
			}
		})
	}
	if _, err := os.Lstat(tree + "/sub/born"); err != nil {
		t.Error(fmt.Errorf("the file of a refused create: %w", err))
	}
}

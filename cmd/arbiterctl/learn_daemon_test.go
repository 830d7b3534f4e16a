// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge"
)

// realDaemon builds and starts arbiterd on fanotify with a tree of its own, and returns a
// func that is arbiterctl against it.
func realDaemon(t *testing.T) (tree string, ctl func(args ...string) (code int, output string)) {
	t.Helper()
	needsCgroup2(t)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", dir+"/arbiterd", "../arbiterd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the daemon: %v\n%s", err, out)
	}
	tree = dir + "/tree"
	for name, text := range map[string]string{"data/a": "a", "data/b": "b", "data/secret": "s",
		"cache/f1.tmp": "", "cache/f2.tmp": "", "cache/f3.tmp": "", "cache/f4.tmp": "", "cache/f5.tmp": "", "cache/f66.tmp": "",
		"run": "#!/bin/sh\ncd " + tree + " || exit\nbin/cat data/a data/b\nfor i in 1 2 3 4 5; do bin/cat cache/f$i.tmp; done\necho out >> log\n"} {
		writeTree(t, filepath.Join(tree, name), []byte(text), 0o755)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(cat)
	if err != nil {
		t.Fatal(err)
	}
	writeTree(t, tree+"/bin/cat", program, 0o755)
	writeTree(t, tree+"/log", nil, 0o644)

	socket := dir + "/s"
	daemon := exec.Command(dir+"/arbiterd", "--config", "/dev/null", "--socket", socket, "--state-dir", dir+"/state", "--backend", kernelbridge.BackendFanotify)
	log := &lockedBuffer{}
	daemon.Stderr = log
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- daemon.Wait() }()
	t.Cleanup(func() {
		_ = daemon.Process.Signal(unix.SIGTERM)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			_ = daemon.Process.Kill()
			<-exited
		}
	})
	ctl = func(args ...string) (int, string) {
		var out bytes.Buffer
		code := testApp(nil, &out, &out).run(append([]string{"--socket", socket, "--wait", "30s"}, args...))
		return code, out.String()
	}
	if code, out := ctl("status"); code != exitOK {
		t.Skipf("needs fanotify permission events: %s%s", out, log)
	}
	return tree, ctl
}

func writeTree(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

// The whole way, with a real daemon and real programs: a workload is learned, the proposal
// is put in force with deny as its default, the workload runs again without a refusal, and
// something else is refused. Then the same is learned once more under those rules.
func TestLearnEndToEnd(t *testing.T) {
	tree, ctl := realDaemon(t)
	learned := filepath.Join(t.TempDir(), "learned.yaml")
	code, out := ctl("learn", "--observe", "--scope", tree, "--default", "deny", "-o", learned, "--", tree+"/run")
	if code != exitOK {
		t.Fatalf("learn exits with %d:\n%s", code, out)
	}
	text, err := os.ReadFile(learned)
	if err != nil {
		t.Fatal(err)
	}
	glob := fmt.Sprintf("allows 5 observed + 1 unobserved paths: %s/cache/f[0-9]*.tmp", tree)
	if !strings.Contains(out, glob) || !strings.Contains(string(text), "# "+glob) {
		t.Errorf("the price %q is not told:\n%s\n%s", glob, out, text)
	}
	for _, args := range [][]string{{"rules", "check", "--lint", learned}, {"rules", "push", learned}} {
		if code, out := ctl(args...); code != exitOK {
			t.Fatalf("%v exits with %d:\n%s\n%s", args, code, out, text)
		}
	}
	if got, err := exec.Command(tree + "/run").CombinedOutput(); err != nil || string(got) != "ab" {
		t.Errorf("the workload under its rules: %q, %v, want \"ab\"\n%s", got, err, text)
	}
	if _, out := ctl("events", "--no-follow", "--verdict", "deny"); strings.Contains(out, "deny") {
		t.Errorf("the workload was refused something:\n%s\n%s", out, text)
	}
	for name, cmd := range map[string]*exec.Cmd{
		"another program":                           exec.Command("cat", tree+"/data/a"),
		"another file":                              exec.Command("sh", "-c", tree+"/bin/cat "+tree+"/data/secret"),
		"writing what was read":                     exec.Command("sh", "-c", "echo x >> "+tree+"/data/a"),
		"a program of the tree, started by another": exec.Command(tree + "/bin/cat"),
	} {
		if got, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s is allowed: %q\n%s", name, got, text)
		}
	}
	again := filepath.Join(t.TempDir(), "again.yaml")
	code, out = ctl("learn", "--default", "deny", "--generalise", "none", "-o", again, "--", tree+"/run")
	if code != exitOK || !strings.Contains(out, "learned: ") {
		t.Errorf("learning under the learned rules exits with %d:\n%s", code, out)
	}
	if text, err := os.ReadFile(again); err != nil || !strings.Contains(string(text), tree+"/cache/f5.tmp") {
		t.Errorf("learned under the learned rules: %v\n%s", err, text)
	}
}

// What docs/operations.md says to type is typed, in another tree.
func TestLearnDocument(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Learning a workload\n")
	_, block, _ := strings.Cut(section, "```sh\n")
	block, _, ok := strings.Cut(block, "```")
	if !ok {
		t.Fatal("docs/operations.md has no commands below \"Learning a workload\"")
	}
	tree, ctl := realDaemon(t)
	inTest := strings.NewReplacer("/srv/app", tree, "app.yaml", filepath.Join(t.TempDir(), "app.yaml"))
	run := func(line string) string {
		words := strings.Fields(strings.TrimPrefix(inTest.Replace(line), "sudo "))
		if words[0] != "arbiterctl" {
			t.Fatalf("%q is no command of arbiterctl", line)
		}
		code, out := ctl(words[1:]...)
		if code != exitOK {
			t.Fatalf("%q exits with %d:\n%s", line, code, out)
		}
		return out
	}
	var last, out string
	for line := range strings.Lines(block) {
		last, out = line, run(line)
	}
	if strings.Contains(out, "audit") {
		t.Errorf("before anything else was done:\n%s", out)
	}
	for _, cmd := range []*exec.Cmd{exec.Command(tree + "/run"), exec.Command("cat", tree+"/data/secret")} {
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v: the proposal refuses something\n%s", cmd, err, out)
		}
	}
	if out := run(last); strings.Count(out, "audit") != 1 || !strings.Contains(out, tree+"/data/secret") {
		t.Errorf("the default decided\n%s\nwant the open of data/secret alone", out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package house

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestSetup runs scripts/setup on machines that lack something: PATH is a scratch
// folder, and go, id and apt-get in it are made up. Nothing is installed.
func TestSetup(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	want := string(regexp.MustCompile(`(?m)^go (.*)$`).FindSubmatch(mod)[1])
	const (
		root, user = "echo 0", "echo 1000"
		installs   = `echo "$*" >>"$LOG"`
		refuses    = `echo no network; exit 100`
	)
	goes := func(version string) string { return "echo go" + version }
	all := strings.Fields("gcc clang-19 llvm-strip-19 qemu-system-x86_64 dpkg-deb xz gpgv cpio git")
	for _, tt := range []struct {
		name   string
		fakes  map[string]string // name and body of a program
		there  []string          // programs that do nothing
		args   []string
		status int
		output []string // in stdout and stderr; none: nothing is said
		log    string   // of apt-get
	}{
		{name: "go is there", fakes: map[string]string{"go": goes(want)}, args: []string{"build"}},
		{name: "newer go", fakes: map[string]string{"go": goes("9.1.2")}, args: []string{"build"}},
		{name: "no go", args: []string{"build"}, status: 1,
			output: []string{"setup: this machine lacks Go " + want + " or newer", "https://go.dev/dl", `sudo env PATH="$PATH" make`}},
		{name: "old go", fakes: map[string]string{"go": goes("1.19.8")}, args: []string{"build"}, status: 1,
			output: []string{"lacks Go " + want + " or newer", "https://go.dev/dl", "the one in PATH is 1.19.8"}},
		{name: "no go comes before packages", fakes: map[string]string{"id": root, "apt-get": installs}, args: []string{"vm"}, status: 1,
			output: []string{"https://go.dev/dl"}},
		{name: "packages, not root", fakes: map[string]string{"go": goes(want), "id": user, "apt-get": installs}, args: []string{"vm"}, status: 1,
			output: []string{"cpio", "qemu-system-x86", "as root", "apt-get update && apt-get install -y --no-install-recommends "}},
		{name: "packages, no apt-get", fakes: map[string]string{"go": goes(want), "id": root}, args: []string{"vm"}, status: 1,
			output: []string{"Debian packages, or their like", "qemu-system-x86"}},
		{name: "packages, root", fakes: map[string]string{"go": goes(want), "id": root, "apt-get": installs}, args: []string{"vm"},
			output: []string{"setup: installing cpio dpkg gpgv qemu-system-x86 xz-utils"}, log: "install -y --no-install-recommends cpio dpkg gpgv qemu-system-x86 xz-utils"},
		{name: "nothing is missing", fakes: map[string]string{"go": goes(want), "id": root, "apt-get": installs}, there: all, args: []string{"vm"}},
		{name: "apt-get cannot", fakes: map[string]string{"go": goes(want), "id": root, "apt-get": refuses}, args: []string{"vm"}, status: 1,
			output: []string{"no network", "apt-get could not install them", "    apt-get update && apt-get install"}},
		{name: "unknown target", fakes: map[string]string{"go": goes(want)}, args: []string{"lunch"}, status: 2, output: []string{`unknown target "lunch"`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, tool := range strings.Fields("bash dirname sed sort head mktemp cat rm") {
				found, err := exec.LookPath(tool)
				if err != nil {
					t.Fatalf("the scripts need %s: %v", tool, err)
				}
				if err := os.Symlink(found, filepath.Join(dir, tool)); err != nil {
					t.Fatal(err)
				}
			}
			for name, body := range tt.fakes {
				script(t, filepath.Join(dir, name), body)
			}
			for _, name := range tt.there {
				script(t, filepath.Join(dir, name), "exit 0")
			}
			log := filepath.Join(dir, "log")
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "bash"), append([]string{"scripts/setup"}, tt.args...)...)
			cmd.Env = []string{"PATH=" + dir, "LOG=" + log, "TMPDIR=" + dir}
			cmd.WaitDelay = 10 * time.Second
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("exit status = %d, want %d; it says:\n%s", got, tt.status, out)
			}
			for _, w := range tt.output {
				if !bytes.Contains(out, []byte(w)) {
					t.Errorf("it does not say %q:\n%s", w, out)
				}
			}
			if len(tt.output) == 0 && len(out) > 0 {
				t.Errorf("it says %q, want nothing", out)
			}
			if got, _ := os.ReadFile(log); !strings.Contains(string(got), tt.log) || tt.log == "" && len(got) > 0 {
				t.Errorf("apt-get was called with %q, want %q", got, tt.log)
			}
		})
	}
}

func script(t *testing.T, name, body string) {
	t.Helper()
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

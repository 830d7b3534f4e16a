// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// A rule lets a program run what it is the interpreter of, and nothing else; records say which it was.
func TestRoles(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	good, script := dir+"/tree/good", dir+"/tree/script"
	if err := os.WriteFile(script, []byte("#!"+good+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	source := fmt.Sprintf(`version: 1
default: audit
scope: {paths: [%q]}
events: [exec]
rules:
  - id: not-by-hand
    events: [exec]
    object: {path: %q}
    args: {role: program}
    verdict: {deny: EXDEV}
`, dir+"/tree", good)
	if !inGuest() { // fanotify
		_, err := pb.NewRulesServiceClient(d.conn).Push(t.Context(), &pb.PushRequest{Source: []byte(source)})
		if want := "take args.role out"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("on fanotify: got %v, want %s", err, want)
		}
		return
	}
	d.push(source)
	run := func(path string) unix.Errno {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path)
		cmd.Env = append(os.Environ(), roleEnv+"=subject")
		var errno unix.Errno
		if err := cmd.Run(); errors.As(err, &errno) {
			return errno
		}
		return 0 // it ran, however it ended
	}
	if got := run(good); got != unix.EXDEV {
		t.Errorf("executed by hand: %v, want EXDEV", got)
	}
	if got := run(script); got != 0 {
		t.Errorf("executed for a script: %v, want success", got)
	}
	var seen []string
	for _, e := range d.recorded() {
		if e.Event == "exec" {
			for _, a := range e.Args {
				seen = append(seen, fmt.Sprintf("%s %s=%d %s", strings.TrimPrefix(string(e.Object.GetPath()), dir+"/tree/"), a.Name, a.Value, e.Verdict))
			}
		}
	}
	want := []string{"good role=1 deny", "script role=1 audit", "good role=2 audit"}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("recorded %q, want %q", seen, want)
	}
}

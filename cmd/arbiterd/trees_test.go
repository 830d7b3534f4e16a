// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

// runAnother runs a subject and ends as it does.
func runAnother(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), roleEnv+"=subject")
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// treeRules refuse a file to who is in the process tree of a program.
func treeRules(dir, program string) string {
	return fmt.Sprintf(`version: 1
default: allow
scope: {paths: [%q]}
rules:
  - id: not-by-it
    events: [open]
    object: {path: %q}
    subject: {process_tree: %q}
    verdict: {deny: EXDEV}
`, dir+"/tree", dir+"/tree/plain", program)
}

// Rules refuse by process tree, from a push on also to who runs already, and records say who
// was in it.
func TestProcessTrees(t *testing.T) {
	dir := newTree(t)
	d := startDaemon(t, dir)
	if !inGuest() { // fanotify
		_, err := pb.NewRulesServiceClient(d.conn).Push(t.Context(), &pb.PushRequest{Source: []byte(treeRules(dir, dir+"/tree/good"))})
		if want := "take subject.process_tree out"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("on fanotify: got %v, want %s", err, want)
		}
		return
	}
	good, bad, plain := dir+"/tree/good", dir+"/tree/bad", dir+"/tree/plain"
	d.push(treeRules(dir, good))
	d.soon(0, "bad", plain)
	d.soon(unix.EXDEV, "good", plain)
	descendant := func() unix.Errno {
		cmd := exec.Command(good, bad, plain)
		cmd.Env = append(os.Environ(), roleEnv+"=starter")
		err := cmd.Run()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			return unix.Errno(exit.ExitCode())
		}
		if err != nil {
			t.Fatal(err)
		}
		return 0
	}
	if got := descendant(); got != unix.EXDEV {
		t.Errorf("a child of who is in the tree: %v, want EXDEV\n%s", got, d.log)
	}
	var seen bool
	for _, e := range d.recorded() {
		if string(e.Subject.GetExe()) == bad && e.Rule == "not-by-it" {
			seen = true
			if got := fmt.Sprintf("%s %s", e.InTrees, e.NotInTrees); got != "["+good+"] []" {
				t.Errorf("the record says in and not in %s", got)
			}
		}
	}
	if !seen {
		t.Error("there is no record of the refusal")
	}

	// Another set: its tree is that of this very program, which runs.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := startOpener(t, plain)
	d.push(treeRules(dir, self))
	d.soon(unix.EXDEV, "bad", plain) // a child of this process
	saw := o.stop()
	if saw.Errnos[unix.EXDEV] == 0 || saw.Errnos[0] == 0 || len(saw.Errnos) != 2 {
		t.Errorf("who ran before the push saw %v, want its opens to succeed and then EXDEV", saw.Errnos)
	}
	// And back: the children of this process are in no tree any more but for that of good.
	d.push(treeRules(dir, good))
	d.soon(0, "bad", plain)
	d.soon(unix.EXDEV, "good", plain)
	d.stop()
}

// A candidate may name process trees that the rules in force do not: records tell of them while it
// runs, and of no others when it has ended.
func TestProcessTreesOfCandidate(t *testing.T) {
	dir := newTree(t)
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: fanotify knows no process trees")
	}
	d := startDaemon(t, dir)
	good, plain := dir+"/tree/good", dir+"/tree/plain"
	d.push(strings.Replace(treeRules(dir, dir+"/tree/bad"), "deny: EXDEV", "deny: ENOENT", 1))
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	shadow := pb.NewShadowServiceClient(d.conn)
	begin := func() {
		t.Helper()
		if _, err := shadow.Start(ctx, &pb.ShadowStartRequest{Source: []byte(treeRules(dir, good)), Name: "next.yaml"}); err != nil {
			t.Fatal(err)
		}
		d.soon(0, "good", plain)
		d.soon(unix.ENOENT, "bad", plain)
		tick := time.NewTicker(50 * time.Millisecond) // calls are limited
		defer tick.Stop()
		var s *pb.ShadowState
		for s.GetChanges()["allow_to_deny"] == 0 || s.GetChanges()["deny_to_allow"] == 0 {
			r, err := shadow.Get(ctx, &pb.ShadowGetRequest{})
			if err != nil {
				t.Fatalf("the candidate has not flipped both: %v, %v", s, err)
			}
			s = r.GetState()
			<-tick.C
		}
		if len(s.GetCannotTell()) != 0 || s.GetLost() != 0 {
			t.Errorf("state %v, want nothing that cannot be told", s)
		}
	}
	begin()
	if _, err := shadow.Stop(ctx, &pb.ShadowStopRequest{}); err != nil {
		t.Fatal(err)
	}
	d.soon(unix.ENOENT, "bad", plain)
	all := d.recorded()
	if e := all[len(all)-1]; fmt.Sprintf("%s %s", e.InTrees, e.NotInTrees) != "["+dir+"/tree/bad] []" {
		t.Errorf("without a candidate a record says in %s and not in %s", e.InTrees, e.NotInTrees)
	}
	begin()
	if _, err := shadow.Promote(ctx, &pb.ShadowPromoteRequest{Force: true}); err != nil {
		t.Fatal(err)
	}
	d.soon(unix.EXDEV, "good", plain)
	d.soon(0, "bad", plain)
	d.stop()
}

// recorded returns the events that the daemon keeps.
func (d *runs) recorded() (out []*pb.Event) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := pb.NewEventsServiceClient(d.conn).Watch(ctx, &pb.WatchRequest{NoFollow: true})
	for err == nil {
		var m *pb.WatchResponse
		if m, err = stream.Recv(); err == nil && m.GetEvent() != nil {
			out = append(out, m.GetEvent())
		}
	}
	if err != io.EOF {
		d.t.Fatal(err)
	}
	return out
}

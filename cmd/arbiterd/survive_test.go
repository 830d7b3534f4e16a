// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startSurviving starts a daemon whose hooks outlive it; tree/good may go on then.
func startSurviving(t *testing.T, dir string) *runs {
	t.Helper()
	if !inGuest() {
		t.Skip("runs only inside the virtual machine: it is about pinned hooks")
	}
	config := dir + "/config"
	text := "survive: closed\nsurvive_pins: /sys/fs/bpf/arbiter-test\nbreak_glass: " + dir + "/break-glass\nrescue: [" + dir + "/tree/good]\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll("/sys/fs/bpf/arbiter-test")
		// The kernel lets go of a link that was unpinned a moment later.
		for end := time.Now().Add(10 * time.Second); openErrno(dir+"/tree/plain") != nil && time.Now().Before(end); {
			unix.Poll(nil, 1)
		}
	})
	return startDaemon(t, dir, "--config", config)
}

func pinned(t *testing.T) int {
	t.Helper()
	all, err := filepath.Glob("/sys/fs/bpf/arbiter-test/*/*")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// openErrno opens a file in this process.
func openErrno(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// After kill -9 everything in scope is refused at once, but to whom is on the list; a new
// daemon takes over; the break-glass file ends it, made by root alone; a clean stop leaves
// nothing.
func TestSurviveClosed(t *testing.T) {
	dir := newTree(t)
	d := startSurviving(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.soon(0, "good", d.tree+"/plain")
	a := startAsker(t, d.tree+"/plain")
	d.kill()
	for range 3 {
		a.begin()
		if _, errno := a.end(); errno != unix.EPERM {
			t.Errorf("an open after the daemon's death: %v, want EPERM", errno)
		}
	}
	if err := openErrno(dir + "/config"); err != nil {
		t.Errorf("an open out of scope: %v", err)
	}
	if pinned(t) < 4 {
		t.Errorf("%d pins, want those of open, exec and the death", pinned(t))
	}

	d = startSurviving(t, dir)
	if s := d.status(); s.Epoch != 1 {
		t.Errorf("epoch %d, want 1", s.Epoch)
	}
	d.soon(0, "good", d.tree+"/plain")
	d.soon(unix.EPERM, "bad")

	d.kill()
	if err := openErrno(d.tree + "/plain"); err != unix.EPERM {
		t.Errorf("an open after the second death: %v, want EPERM", err)
	}
	other, err := os.Create(dir + "/other-glass")
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if err := openErrno(d.tree + "/plain"); err != unix.EPERM {
		t.Errorf("an open after another file was made: %v, want EPERM", err)
	}
	glass, err := os.Create(dir + "/break-glass")
	if err != nil {
		t.Fatal(err)
	}
	glass.Close()
	if err := openErrno(d.tree + "/plain"); err != nil {
		t.Errorf("an open after the break-glass file was made: %v, want success", err)
	}

	d = startSurviving(t, dir)
	d.soon(unix.EPERM, "bad")
	d.stop()
	if n := pinned(t); n != 0 {
		t.Errorf("%d pins after a clean stop", n)
	}
	if got := d.try("bad"); got != 0 {
		t.Errorf("after a clean stop: %v, want success", got)
	}
}

// Who is on the rescue list goes on.
func TestSurviveRescue(t *testing.T) {
	dir := newTree(t)
	d := startSurviving(t, dir)
	d.push(ruleText(dir, "EACCES"))
	d.soon(0, "good", d.tree+"/plain")
	rescued := startAskerOf(t, d.tree+"/good", d.tree+"/secret")
	d.kill()
	rescued.begin()
	if _, errno := rescued.end(); errno != 0 {
		t.Errorf("an open by a program of the list: %v, want success", errno)
	}
	if err := openErrno(d.tree + "/plain"); err != unix.EPERM {
		t.Errorf("an open by another: %v, want EPERM", err)
	}
}

// A successor that dies when it asks already leaves hooks that refuse everything; the old
// daemon, which stays in charge, ends them.
func TestSurviveASuccessor(t *testing.T) {
	dir := newTree(t)
	d := startSurviving(t, dir)
	d.push(closedRules(dir))
	const tries = 5
	for try := range tries {
		cmd, log := daemonCommand(dir, "--config", dir+"/config", "--replace")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		asks := func() bool {
			both, err := filepath.Glob("/sys/fs/bpf/arbiter-test/*/file_open")
			return err == nil && len(both) == 2
		}
		d.until("two daemons that ask, or a new one", func() bool { return asks() || strings.Contains(log.String(), "took over") })
		cmd.Process.Kill()
		cmd.Wait()
		if d.staysInCharge(closedRules(dir) + strings.Repeat("#\n", try+1)) {
			d.until("the end of the dead one's hooks", func() bool { return strings.Contains(d.log.String(), "ended the hooks of dead daemons") })
			d.until("an open that is allowed", func() bool { return openErrno(d.tree+"/plain") == nil })
			d.soon(unix.EPERM, "bad")
			return
		}
		t.Logf("try %d: it had taken over already", try+1)
		d.ended()
		d = startSurviving(t, dir)
	}
	t.Errorf("in %d tries no kill came in time", tries)
}

// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnavailable(t *testing.T) {
	for _, tc := range []struct {
		name, hint string
		err        error
	}{
		{"not there", "modprobe fuse", unix.ENOENT},
		{"no driver", "modprobe fuse", unix.ENODEV},
		{"not ours to open", "as root", unix.EACCES},
		{"forbidden by a control group", "DeviceAllow", unix.EPERM},
	} {
		err := deviceError(devicePath, tc.err)
		var u *UnsupportedError
		if !errors.As(err, &u) || !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("%s: %v, want an UnsupportedError with %q", tc.name, err, tc.hint)
		}
	}
	for _, tc := range []struct {
		hint string
		err  error
	}{{"modprobe fuse", unix.ENODEV}, {"Linux 6.12", unix.ENOSYS}, {"as root", unix.EPERM}} {
		err := mountError(tc.err)
		var u *UnsupportedError
		if !errors.As(err, &u) || !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("fsopen: %v, want an UnsupportedError with %q", err, tc.hint)
		}
	}
}

// An Open that does not succeed, wherever it ends, leaves nothing behind.
func TestOpenErrors(t *testing.T) {
	g, _ := open(t, 1) // opens what the runtime keeps
	g.Close()
	before := descriptors(t)
	for name, path := range map[string]string{
		"no device":           t.TempDir() + "/fuse",
		"not a device":        "/dev/null",
		"not even like a one": "/proc/self/exe",
	} {
		t.Run(name, func(t *testing.T) {
			g, err := Open(Options{Workers: 2, Slots: anyone{}, device: path})
			if err == nil {
				g.Close()
				t.Fatalf("opened with %s", path)
			}
			t.Log(err)
		})
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	first, _ := open(t, 1)
	first.Close()
	before := descriptors(t)
	for range 5 {
		g, err := Open(Options{Workers: 3, Slots: anyone{}})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, err := g.Parker(i, -1, nil); err != nil {
				t.Fatal(err)
			}
		}
		pid := g.Identity().PID
		if descriptors(t) <= before {
			t.Error("an open gate has no descriptors: the count sees nothing")
		}
		for range 2 {
			if err := g.Close(); err != nil {
				t.Errorf("closing: %v", err)
			}
		}
		if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("the helper is there after Close: %v", err)
		}
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The helper has nothing of the daemon's, lives through every signal that can be
// blocked, and belongs to no terminal.
func TestHelper(t *testing.T) {
	inherited, err := unix.Dup(1) // without close-on-exec, as a parent may leave one
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	g, q, s := opened(t)
	pid := g.Identity().PID
	dir := "/proc/" + strconv.Itoa(pid)
	entries, err := os.ReadDir(dir + "/fd")
	if err != nil || len(entries) != 1 || entries[0].Name() != "0" {
		t.Errorf("descriptors %v, %v, want 0 alone", entries, err)
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("session %d, %v, want its own, %d", sid, err, pid)
	}
	if to, err := os.Readlink(dir + "/cwd"); err != nil || to != "/" {
		t.Errorf("working directory %q, %v, want /", to, err)
	}
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGPIPE, unix.SIGUSR1, unix.SIGTSTP, 34, 64} {
		if err := unix.Kill(pid, sig); err != nil {
			t.Errorf("sending %v: %v", sig, err)
		}
	}
	beat(t, g)
	work(t, g, q, false, -1)
	s.start(order{First: 5, Rounds: 10})
	if o := s.wait(); o.Errno != 0 {
		t.Errorf("a sleep after the signals: %v", o.Errno)
	}
	select {
	case <-g.Done():
		t.Error("the helper has ended")
	default:
	}
	unix.Kill(pid, unix.SIGSTOP) // Close ends it all the same
}

// Nothing that an exec of the file needs is asked of the server: a fork of a Go
// program must not wait for its other threads.
func TestExecNeedsNoServer(t *testing.T) {
	g, _ := open(t, 1) // nobody serves it
	if n := g.helper.asked; n != 0 {
		t.Errorf("the helper's exec made %d requests, want none", n)
	}
	cmd := exec.Command("/proc/" + strconv.Itoa(g.Identity().PID) + "/exe")
	within(t, "executing the helper once more", func() {
		if err := cmd.Run(); err != nil { // its standard input is at its end
			t.Error(err)
		}
	})
}

// Opening goes on while the garbage collector stops the world again and again, on
// one processor, too.
func TestOpenDuringCollections(t *testing.T) {
	open(t, 1) // or skip
	for _, procs := range []int{1, 4} {
		func() {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
			var stop atomic.Bool
			defer stop.Store(true)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for !stop.Load() {
					runtime.GC()
				}
			}()
			within(t, "opening", func() {
				for range 20 {
					g, err := Open(Options{Workers: 1, Slots: anyone{}})
					if err != nil {
						t.Error(err)
						return
					}
					g.Close()
				}
			})
			stop.Store(true)
			<-done
		}()
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// listenOn opens a socket that must open, until the test ends.
func listenOn(t *testing.T, c SocketConfig) *Listener {
	t.Helper()
	l, err := Listen(c)
	if err != nil {
		t.Fatalf("Listen: %v", err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// wantListenError wants Listen to refuse with a text that has the parts.
func wantListenError(t *testing.T, c SocketConfig, parts ...string) error {
	t.Helper()
	l, err := Listen(c)
	if err == nil {
		l.Close()
		t.Fatalf("Listen on %s: got a listener, want an error that says %q", c.Path, parts)
	}
	for _, p := range append(parts, c.Path) {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("got %q, want it to say %q", err, p)
		}
	}
	return err
}

// answers reports whether somebody listens.
func answers(path string) bool {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// TestListenAfterAKill: while a daemon lives the socket is its own; when it was
// killed its socket file is still there, and is taken over.
func TestListenAfterAKill(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	c := startChild(t, "listen", path, nil)
	if got := c.line(); got != "listening" {
		t.Fatalf("the child says %q", got)
	}
	err := wantListenError(t, SocketConfig{Path: path}, fmt.Sprintf("pid %d", c.Process.Pid), "stop it", "another socket")
	if !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want it to wrap ErrInUse", err)
	}
	if !answers(path) {
		t.Error("the refused daemon took the socket away from the first")
	}
	c.kill()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the killed daemon left no socket file, so this tests nothing: %v", err)
	}
	listenOn(t, SocketConfig{Path: path})
	if !answers(path) {
		t.Error("nobody listens after the take-over")
	}
}

func TestListenTwice(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	first := listenOn(t, SocketConfig{Path: path})
	wantListenError(t, SocketConfig{Path: path}, fmt.Sprintf("pid %d", os.Getpid()))
	if err := first.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close the socket is still there (%v)", err)
	}
	second := listenOn(t, SocketConfig{Path: path})
	if second.Path() != path || !answers(path) {
		t.Errorf("the second daemon listens on %s and answers: %v", second.Path(), answers(path))
	}
	// What the first does now is no business of the second's.
	first.Close()
	if !answers(path) {
		t.Error("closing the first again took the socket from the second")
	}
}

// TestListenLocked: a lock that tells no pid, as one just being written.
func TestListenLocked(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	lock, err := os.Create(path + lockSuffix)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	wantListenError(t, SocketConfig{Path: path}, "pid unknown")
}

// TestListenKeepsOthersFiles: neither a foreign server's socket nor a file is
// replaced.
func TestListenKeepsOthersFiles(t *testing.T) {
	dir := shortDir(t)
	foreign := filepath.Join(dir, "foreign")
	l, err := net.Listen("unix", foreign)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := wantListenError(t, SocketConfig{Path: foreign}); !errors.Is(err, ErrInUse) {
		t.Errorf("on a foreign socket: got %v, want it to wrap ErrInUse", err)
	}
	if !answers(foreign) {
		t.Error("the foreign server lost its socket")
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantListenError(t, SocketConfig{Path: file}, "no socket", "another path")
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Errorf("the file holds %q (%v), want what it held", got, err)
	}

	// A replaced socket is not removed by the daemon that had it.
	mine := filepath.Join(dir, "mine")
	own := listenOn(t, SocketConfig{Path: mine})
	if err := os.Rename(foreign, mine); err != nil {
		t.Fatal(err)
	}
	if err := own.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if !answers(mine) {
		t.Error("Close removed somebody else's socket")
	}
}

// TestListenAfterAnInterruptedStart: the socket's other name is still taken.
func TestListenAfterAnInterruptedStart(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + newSuffix, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	listenOn(t, SocketConfig{Path: path})
	if !answers(path) {
		t.Error("nobody listens")
	}
}

func TestSocketModeAndGroup(t *testing.T) {
	// Whatever the umask takes away, the mode is as asked for.
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, tt := range []struct {
		name  string
		mode  fs.FileMode
		group string
		want  fs.FileMode
		gid   int
	}{
		{"by default", 0, "", 0o660, os.Getegid()},
		{"for all", 0o666, "", 0o666, os.Getegid()},
		{"root alone", 0o600, "", 0o600, os.Getegid()},
		{"group by number", 0, "65534", 0o660, 65534},
		{"group by name", 0o620, "root", 0o620, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.group != "" && os.Getuid() != 0 {
				t.Skip("needs root: only root can give a file to another group")
			}
			path := filepath.Join(shortDir(t), "run", "arbiter", "s")
			listenOn(t, SocketConfig{Path: path, Mode: tt.mode, Group: tt.group})
			info, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode(); got != fs.ModeSocket|tt.want {
				t.Errorf("mode %v, want %v", got, fs.ModeSocket|tt.want)
			}
			if got := int(info.Sys().(*syscall.Stat_t).Gid); got != tt.gid {
				t.Errorf("gid %d, want %d", got, tt.gid)
			}
			if info, err = os.Lstat(path + lockSuffix); err != nil || info.Mode() != 0o600 {
				t.Errorf("lock file: mode %v (%v), want 0600", info.Mode(), err)
			}
		})
	}
}

func TestListenRefuses(t *testing.T) {
	dir := shortDir(t)
	wantListenError(t, SocketConfig{Path: "relative/s"}, "absolute")
	wantListenError(t, SocketConfig{Path: "/" + strings.Repeat("x", MaxSocketPath)}, fmt.Sprint(MaxSocketPath+1, " bytes"))
	wantListenError(t, SocketConfig{Path: dir + "/s", Group: "no-such-group"}, "groupadd --system no-such-group")
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantListenError(t, SocketConfig{Path: dir + "/file/s"}, "not a directory")
	// Nothing of a refused start is left in the way of the next.
	listenOn(t, SocketConfig{Path: dir + "/s"})
	longest := dir + "/" + strings.Repeat("x", MaxSocketPath-len(dir)-1)
	listenOn(t, SocketConfig{Path: longest})
	if !answers(longest) {
		t.Errorf("nobody listens on a path of %d bytes", len(longest))
	}
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// DefaultSocketMode lets root and the socket's group connect; what they may do
// there is another question, see AccessList.
const DefaultSocketMode fs.FileMode = 0o660

// MaxSocketPath is the longest path of a socket, in bytes: what fits into sun_path
// with its NUL, less our suffix.
const MaxSocketPath = 107 - len(newSuffix)

const (
	lockSuffix = ".lock"
	newSuffix  = ".new"
)

// SocketConfig says where the control interface is served.
type SocketConfig struct {
	Path  string
	Mode  fs.FileMode // 0 means DefaultSocketMode
	Group string      // name or number; empty leaves the process's own
}

// Listener is a listening unix socket that is this process's alone.
type Listener struct {
	*net.UnixListener
	path     string
	lock     *os.File
	stat     os.FileInfo // of the socket file that we made
	shutOnce func() error
	closed   atomic.Bool
}

// Listen opens the socket. One process at a time has it: a lock file beside it
// is locked for as long as the Listener is open, so a socket that a dead daemon
// left is replaced, and one that another daemon serves is not; then the error
// wraps ErrInUse. A missing directory is made, with mode 0755 less the umask.
func Listen(c SocketConfig) (*Listener, error) {
	l, err := listen(c)
	if err != nil {
		return nil, fmt.Errorf("opening control socket %s: %w", c.Path, err)
	}
	return l, nil
}

func listen(c SocketConfig) (*Listener, error) {
	if !filepath.IsAbs(c.Path) || len(c.Path) > MaxSocketPath {
		return nil, fmt.Errorf("its path has %d bytes: give an absolute one of at most %d", len(c.Path), MaxSocketPath)
	}
	if c.Mode == 0 {
		c.Mode = DefaultSocketMode
	}
	gid, err := LookupGroup(c.Group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(c.Path), 0o755); err != nil {
		return nil, err
	}
	lock, err := lockSocket(c.Path)
	if err != nil {
		return nil, err
	}
	l, err := bind(c, gid)
	if err != nil {
		lock.Close()
		return nil, err
	}
	l.lock = lock
	l.shutOnce = sync.OnceValue(l.shut)
	return l, nil
}

// LookupGroup returns the gid of a group by its name or number, -1 for no group.
func LookupGroup(group string) (int, error) {
	if group == "" {
		return -1, nil
	}
	if gid, err := strconv.ParseUint(group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("looking up the group %q: %w; create it with `groupadd --system %s`, or give another", group, err, group)
	}
	return strconv.Atoi(g.Gid)
}

// lockSocket takes the lock beside the socket. The file stays when the lock
// goes: removing it would let two processes hold a lock each.
func lockSocket(path string) (*os.File, error) {
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", f.Name(), err)
		}
		pid, _ := io.ReadAll(io.LimitReader(f, 20))
		return nil, fmt.Errorf("%w (pid %s): stop it, or give this one another socket", ErrInUse, printablePID(pid))
	}
	if err = f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("writing %s: %w", f.Name(), err)
	}
	return f, nil
}

func printablePID(b []byte) string {
	if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return "unknown"
}

// bind makes the socket under another name, gives it its owner and mode, and
// renames it into place: nobody can connect to it with the wrong mode, and the
// process's umask is left alone. The lock is held.
func bind(c SocketConfig, gid int) (*Listener, error) {
	if err := checkStale(c.Path); err != nil {
		return nil, err
	}
	temp := c.Path + newSuffix
	if info, err := os.Lstat(temp); err == nil && info.Mode().Type() == fs.ModeSocket {
		os.Remove(temp) // from a start that was interrupted; Listen below tells if it stayed
	}
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	inner.SetUnlinkOnClose(false)
	l := &Listener{UnixListener: inner, path: c.Path}
	err = os.Chmod(temp, c.Mode.Perm())
	if err == nil && gid >= 0 {
		err = os.Chown(temp, -1, gid)
	}
	if err == nil {
		l.stat, err = os.Lstat(temp)
	}
	if err == nil {
		err = os.Rename(temp, c.Path)
	}
	if err != nil {
		inner.Close()
		os.Remove(temp)
		return nil, err
	}
	return l, nil
}

// checkStale refuses to replace what is no socket, and a socket on which
// somebody answers who does not take part in our locking.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("something is there that is no socket (%s): move it away, or give another path", info.Mode())
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("%w: stop it, or give this one another socket", ErrInUse)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("trying whether somebody answers: %w", err)
	}
	return nil
}

// Path returns where the socket is.
func (l *Listener) Path() string { return l.path }

// Close removes the socket, if it is still the one that was made, and lets go of
// the lock. It may be called more than once.
func (l *Listener) Close() error { return l.shutOnce() }

// Closed reports whether Close was called, so that an error of Accept means nothing.
func (l *Listener) Closed() bool { return l.closed.Load() }

func (l *Listener) shut() error {
	l.closed.Store(true)
	err := l.UnixListener.Close()
	if now, lerr := os.Lstat(l.path); lerr == nil && os.SameFile(now, l.stat) {
		err = errors.Join(err, os.Remove(l.path))
	}
	return errors.Join(err, l.lock.Close())
}

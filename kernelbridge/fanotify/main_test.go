// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/guard"
)

const (
	roleEnv = "FANOTIFY_TEST_ROLE"
	// patience ends a test that would hang.
	patience = 20 * time.Second
)

// TestMain runs the tests in a mount namespace of their own, so that they can
// mount without anybody else seeing it, and plays the children's roles.
func TestMain(m *testing.M) {
	guard.Main()
	switch os.Getenv(roleEnv) {
	case "subject":
		subjectMain()
		os.Exit(0)
	case "daemon":
		daemonMain()
		os.Exit(0)
	case "self":
		selfMain()
		os.Exit(0)
	case "fuse":
		fuseMain()
		os.Exit(0)
	case "":
		if os.Geteuid() == 0 {
			os.Exit(inPrivateMounts())
		}
	}
	goleak.VerifyTestMain(m)
}

func inPrivateMounts() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), roleEnv+"=tests")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "running the tests in a mount namespace:", err)
		return 1
	}
	return 0
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) for fanotify_init")
	}
	if ok, why, _ := Probe(); !ok {
		t.Skip("needs fanotify permission events: " + why)
	}
}

// action is what a subject is told to do; outcome what came of it.
type action struct {
	Do    string // open, openat2, exec, openlong, thread
	Path  []byte
	Flags int
	Arg   string
}

type outcome struct {
	Errno int
	Took  time.Duration
	TID   int
	// P50, P99 and Max are of the opens of "many".
	P50, P99, Max time.Duration
}

// subject is a child process that opens and executes on command.
type subject struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	done chan outcome
}

func newSubject(t testing.TB) *subject {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=subject")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &subject{t: t, cmd: cmd, in: in, out: bufio.NewReader(out), done: make(chan outcome, 16)}
	var read sync.WaitGroup
	read.Go(func() {
		for {
			line, err := s.out.ReadBytes('\n')
			if err != nil {
				close(s.done)
				return
			}
			var o outcome
			if json.Unmarshal(line, &o) == nil {
				s.done <- o
			}
		}
	})
	t.Cleanup(func() {
		in.Close()
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		read.Wait()
		cmd.Wait()
		timer.Stop()
	})
	return s
}

func (s *subject) pid() int { return s.cmd.Process.Pid }

// start gives a command without waiting for its outcome.
func (s *subject) start(a action) {
	s.t.Helper()
	line, err := json.Marshal(a)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subject) wait() outcome {
	s.t.Helper()
	select {
	case o, ok := <-s.done:
		if !ok {
			s.t.Fatal("the subject is gone")
		}
		return o
	case <-time.After(patience):
		s.t.Fatalf("the subject is still held after %v", patience)
	}
	panic("unreachable")
}

func (s *subject) do(a action) unix.Errno {
	s.t.Helper()
	s.start(a)
	return unix.Errno(s.wait().Errno)
}

func (s *subject) open(path string) unix.Errno {
	s.t.Helper()
	return s.do(action{Do: "open", Path: []byte(path)})
}

// exec makes a child of the subject execute a file; the errno is the exec's.
func (s *subject) exec(path string) unix.Errno {
	s.t.Helper()
	return s.do(action{Do: "exec", Path: []byte(path)})
}

func subjectMain() {
	runtime.LockOSThread() // what it does, one thread does
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var a action
		if err := json.Unmarshal(line, &a); err != nil {
			fmt.Fprintln(os.Stderr, "subject:", err)
			os.Exit(2)
		}
		begin := time.Now()
		var o outcome
		o.Errno = int(perform(a, &o))
		o.Took = time.Since(begin)
		answer, _ := json.Marshal(o)
		os.Stdout.Write(append(answer, '\n'))
	}
}

// notFirstThread runs f on a thread whose id is not the process's.
func notFirstThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			notFirstThread(f) // the first thread waits here meanwhile
			return
		}
		f()
	}()
	<-done
}

func perform(a action, o *outcome) (e unix.Errno) {
	path := string(a.Path)
	fd := -1
	var err error
	o.TID = unix.Gettid()
	switch a.Do {
	case "open":
		fd, err = unix.Open(path, a.Flags|unix.O_CLOEXEC, 0o600)
	case "many":
		err = many(path, a, o)
	case "openat2":
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: uint64(a.Flags) | unix.O_CLOEXEC})
	case "unlinked": // the file is reached by a descriptor after its name has gone
		var first int
		if first, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
			if err = unix.Unlink(path); err == nil {
				fd, err = unix.Open("/proc/self/fd/"+strconv.Itoa(first), a.Flags|unix.O_CLOEXEC, 0)
			}
			unix.Close(first)
		}
	case "creat":
		fd, err = unix.Creat(path, 0o600)
	case "openlong": // Path is opened component by component
		fd, err = walk(path, a.Flags)
	case "thread":
		notFirstThread(func() {
			o.TID = unix.Gettid()
			fd, err = unix.Open(path, a.Flags|unix.O_CLOEXEC, 0o600)
		})
	case "mkdir+open":
		if err = unix.Mkdir(path, 0o700); err == nil {
			fd, err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		}
	case "execself": // fails, or the subject is gone
		err = unix.Exec(path, []string{path}, nil)
	case "exec":
		cmd := exec.Command(path, strings.Fields(a.Arg)...)
		cmd.Args[0] = "subject"
		err = cmd.Run()
	default:
		fmt.Fprintln(os.Stderr, "subject: cannot", a.Do)
		os.Exit(2)
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	errors.As(err, &e)
	if err != nil && e == 0 {
		e = unix.EPROTO // the program ran and failed
	}
	return e
}

// many opens path a.Arg times and times each.
func many(path string, a action, o *outcome) error {
	n, err := strconv.Atoi(a.Arg)
	if err != nil {
		return err
	}
	took := make([]time.Duration, n)
	for i := range took {
		begin := time.Now()
		fd, err := unix.Open(path, a.Flags|unix.O_CLOEXEC, 0o600)
		took[i] = time.Since(begin)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	slices.Sort(took)
	o.P50, o.P99, o.Max = took[n/2], took[n*99/100], took[n-1]
	return nil
}

func walk(path string, flags int) (int, error) {
	dir := unix.AT_FDCWD
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	parts[0] = "/" + parts[0]
	for i, p := range parts {
		f := unix.O_PATH | unix.O_DIRECTORY
		if i == len(parts)-1 {
			f = flags
		}
		fd, err := unix.Openat(dir, p, f|unix.O_CLOEXEC, 0o600)
		if dir >= 0 {
			unix.Close(dir)
		}
		if err != nil {
			return -1, err
		}
		dir = fd
	}
	return dir, nil
}

// asked is a copy of what a request said.
type asked struct {
	abi.Request
	path, exe string
}

// judge answers the requests of one source from a goroutine of its own.
type judge struct {
	mu     sync.Mutex
	seen   []asked
	late   int
	stop   chan struct{}
	done   sync.WaitGroup
	source *Source
}

func serve(t testing.TB, s *Source, decide func(*abi.Request) abi.Verdict) *judge {
	t.Helper()
	j := &judge{stop: make(chan struct{}), source: s}
	s.b.takeOver() // or the watchdog might be faster than the goroutine
	j.done.Go(func() {
		r := new(abi.Request)
		for {
			for s.Next(r) {
				a := asked{Request: *r, path: string(r.Path()), exe: string(r.Exe())}
				v := decide(r)
				j.mu.Lock() // noted first: the subject may be faster than we
				j.seen = append(j.seen, a)
				j.mu.Unlock()
				if !s.Reply(r, v) {
					j.mu.Lock()
					j.late++
					j.mu.Unlock()
				}
			}
			select {
			case <-j.stop:
				return
			default:
				s.Park(time.Second)
			}
		}
	})
	t.Cleanup(j.end)
	return j
}

func (j *judge) end() {
	select {
	case <-j.stop:
	default:
		close(j.stop)
	}
	j.source.Wake()
	j.done.Wait()
}

// take returns what was asked since the last call.
func (j *judge) take() []asked {
	j.mu.Lock()
	defer j.mu.Unlock()
	seen := j.seen
	j.seen = nil
	return seen
}

func open(t testing.TB, o Options) *Backend {
	t.Helper()
	if o.Workers == 0 {
		o.Workers = 1
	}
	b, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// tree returns a temporary directory, by its real path.
func tree(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// mounted returns a tmpfs of its own with a file in it.
func mounted(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	mountAt(t, dir)
	if err := os.WriteFile(dir+"/file", []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mountAt(t testing.TB, dir string) {
	t.Helper()
	if err := unix.Mount("fanotify-test", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Fatalf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
}

// writeTrue writes a program for amd64 that ends well and does nothing before: no loader, no
// library, not even its own file is opened.
func writeTrue(t testing.TB, to string) {
	t.Helper()
	const base, headers = 0x400000, 64 + 56
	code := []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // mov $SYS_exit, %eax; xor %edi, %edi; syscall
	text := make([]byte, headers, headers+len(code))
	le := binary.LittleEndian
	copy(text, "\x7fELF\x02\x01\x01")
	le.PutUint16(text[16:], 2)  // ET_EXEC
	le.PutUint16(text[18:], 62) // EM_X86_64
	le.PutUint32(text[20:], 1)
	le.PutUint64(text[24:], base+headers) // entry
	le.PutUint64(text[32:], 64)           // of the program header
	le.PutUint16(text[52:], 64)
	le.PutUint16(text[54:], 56)
	le.PutUint16(text[56:], 1)
	le.PutUint32(text[64:], 1) // PT_LOAD
	le.PutUint32(text[68:], 5) // readable, executable
	le.PutUint64(text[80:], base)
	le.PutUint64(text[88:], base)
	le.PutUint64(text[96:], uint64(headers+len(code)))
	le.PutUint64(text[104:], uint64(headers+len(code)))
	le.PutUint64(text[112:], 0x1000)
	if err := os.WriteFile(to, append(text, code...), 0o755); err != nil {
		t.Fatal(err)
	}
}

// copySelf writes this program: a subject, when there is somebody who tells it what to do.
func copySelf(t testing.TB, to string) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func allow(*abi.Request) abi.Verdict { return abi.Verdict{} }
func deny(*abi.Request) abi.Verdict  { return abi.Verdict{Errno: uint16(unix.EACCES)} }

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// subjectEnv makes the test binary a subject: a program that does what its
// arguments say, one system call each, and prints the outcome.
const subjectEnv = "ARBITER_TEST_SUBJECT"

func TestMain(m *testing.M) {
	if os.Getenv(burnEnv) != "" {
		burn()
	}
	if role := os.Getenv(roleEnv); role != "" {
		act(role)
		return
	}
	if os.Getenv(subjectEnv) != "" {
		subject(os.Args[1:])
		return
	}
	goleak.VerifyTestMain(m)
}

// subject pins itself to CPU 0, away from the worker, and runs commands that it
// reads from standard input.
func subject(args []string) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(0)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		fmt.Println("pinning:", err)
		os.Exit(1)
	}
	if len(args) > 0 && args[0] == "verbs" {
		serveVerbs()
		return
	}
	if len(args) == 0 || args[0] != "serve" {
		fmt.Println("ran")
		return
	}
	for {
		var verb, path string
		if _, err := fmt.Scanln(&verb, &path); err != nil {
			return
		}
		var err error
		switch verb {
		case "read":
			err = openClose(path, unix.O_RDONLY)
		case "write":
			err = openClose(path, unix.O_WRONLY|unix.O_APPEND)
		case "path":
			err = openClose(path, unix.O_PATH)
		case "create":
			err = openClose(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		case "chroot":
			err = unix.Chroot(path)
		case "setuid":
			var uid int
			if uid, err = strconv.Atoi(path); err == nil {
				err = unix.Setresuid(uid, uid, 0)
			}
		case "mksticky":
			err = unix.Mkdir(path, 0o1755)
		case "mkdir":
			err = unix.Mkdir(path, 0o755)
		case "rmdir":
			err = unix.Rmdir(path)
		case "unlink":
			err = unix.Unlink(path)
		case "load":
			fmt.Println(underLoad(path))
			continue
		case "canary":
			fmt.Println(canary(path))
			continue
		case "flood": // N:PATH, N opens at once
			fmt.Println(flood(path))
			continue
		case "forks": // N:PATH, N children that open it
			fmt.Println(forks(path))
			continue
		case "try", "trythread", "tryfd", "check":
			err = tryVerb(verb, path)
		case "rename", "spawn", "die", "signal":
			fmt.Println(scopeVerb(verb, path))
			continue
		case "cpu": // how much CPU time this process has used, microseconds
			var u unix.Rusage
			if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
				fmt.Println(outcome(err))
				continue
			}
			fmt.Println((u.Utime.Nano() + u.Stime.Nano()) / 1000)
			continue
		case "exec":
			// The child inherits our CPU and our environment.
			cmd := exec.Command(path)
			// Pipes: there is no /dev/null behind chroot.
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), new(bytes.Buffer), new(bytes.Buffer)
			err = cmd.Run()
		}
		fmt.Println(outcome(err))
	}
}

func openClose(path string, flags int) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func outcome(err error) string {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return unix.ErrnoName(errno)
	}
	if err != nil {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	return "ok"
}

// child is a running subject.
type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out io.ReadCloser
}

func startChild(t *testing.T) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return startChildOf(t, self)
}

// startChildOf starts a subject from a copy of the test binary.
func startChildOf(t *testing.T, program string) *child {
	t.Helper()
	cmd := exec.Command(program, "serve")
	cmd.Env = append(os.Environ(), subjectEnv+"=1")
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
	c := &child{t, cmd, in, out}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c
}

// do runs one command in the subject and returns its outcome.
func (c *child) do(verb, path string) string {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, verb, path); err != nil {
		c.t.Fatalf("telling the subject: %v", err)
	}
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.out.Read(b); err != nil {
			c.t.Fatalf("reading the subject's outcome: %v", err)
		}
		if b[0] == '\n' {
			return string(line)
		}
		line = append(line, b[0])
	}
}

// openLSM opens the backend in a virtual machine, where it must work. Elsewhere
// the test does not run: it would arbitrate the machine's own hooks.
func openLSM(t *testing.T, o LSMOptions) *LSM {
	t.Helper()
	if os.Getenv("ARBITER_VM") == "" {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	b, err := OpenLSM(o)
	if err != nil {
		t.Fatalf("opening the LSM backend: %v", err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("closing the LSM backend: %v", err)
		}
	})
	// An emulated CPU is away for many milliseconds at a time: tests of verdicts
	// wait for them, tests of the bounds set their own.
	atomic.StoreUint64(&b.queue.Header().HeartbeatLimitNS, uint64(10*time.Second))
	if o.Wait == MaxWait {
		atomic.StoreUint64(&b.queue.Header().WaitNS, uint64(10*time.Second))
	}
	return b
}

// worker answers on CPU 1 by a table of paths, and remembers what it was asked.
type worker struct {
	polls atomic.Bool // it does not park
	mu    sync.Mutex
	deny  map[string]unix.Errno // "event path"
	slow  map[string]time.Duration
	keep  bool                          // allows may be kept by the kernel
	quiet bool                          // remember nothing
	judge func(*abi.Request) unix.Errno // instead of deny
	asked []string
	comms map[string]bool
}

func startWorker(t *testing.T, b *LSM, deny map[string]unix.Errno) *worker {
	t.Helper()
	w := &worker{deny: deny, comms: map[string]bool{}}
	var stop atomic.Bool
	done := make(chan struct{})
	src := b.Sources()[0]
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var set unix.CPUSet
		set.Set(1)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			t.Errorf("pinning the worker: %v", err)
			return
		}
		var q abi.Request
		for idle := 0; !stop.Load(); {
			if !src.Next(&q) {
				if idle++; idle > 1000 && !w.polls.Load() { // parked most of the time: the kick is tested
					src.Park(time.Second)
					idle = 0
				}
				continue
			}
			key := fmt.Sprintf("%s %s", q.Event, q.Path())
			w.mu.Lock()
			if !w.quiet {
				w.asked = append(w.asked, fmt.Sprintf("%s access=%d exe=%s", key, q.Access, q.Exe()))
			}
			w.comms[unix.ByteSliceToString(q.Comm[:])] = true
			errno, slow := w.deny[key], w.slow[key]
			if w.judge != nil {
				errno = w.judge(&q)
			}
			w.mu.Unlock()
			time.Sleep(slow)
			src.Reply(&q, abi.Verdict{Errno: uint16(errno), Keep: w.keep})
		}
	}()
	t.Cleanup(func() { stop.Store(true); src.Wake(); <-done })
	return w
}

// take returns what was asked since the last call.
func (w *worker) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked = nil
	return asked
}

// wantAll asks for every fact of every event.
func wantAll() (all [abi.EventCount]abi.Fields) {
	for e := range all {
		all[e] = ^abi.Fields(0)
	}
	return all
}

// policyAll asks about opens and execs, with all facts.
func policyAll(onFail [abi.EventCount]abi.Verdict) Policy {
	return Policy{Asked: 1<<abi.EventOpen | 1<<abi.EventExec, Want: wantAll(), OnFail: onFail, Sleep: time.Second}
}

func TestLSMDeniesAndAllows(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	outside := filepath.Join(dir, "outside")
	mustMkdir(t, tree, outside, tree+"/sub", tree+"/mnt")
	if err := unix.Mount("tmpfs", tree+"/mnt", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(tree+"/mnt", unix.MNT_DETACH) })
	for _, f := range []string{tree + "/secret", tree + "/sub/plain", outside + "/secret", tree + "/mnt/below"} {
		mustWrite(t, f, []byte("x"), 0o644)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{tree + "/good", tree + "/bad", outside + "/bad"} {
		mustWrite(t, f, self, 0o755)
	}
	mustWrite(t, tree+"/script", []byte("#!"+tree+"/good\n"), 0o755)
	mustWrite(t, tree+"/badscript", []byte("#!"+tree+"/bad\n"), 0o755)

	w := startWorker(t, b, map[string]unix.Errno{
		"open " + tree + "/secret":    unix.EACCES,
		"open " + tree + "/mnt/below": unix.EPERM,
		"open " + tree + "/newborn":   unix.ENOENT,
		"exec " + tree + "/bad":       unix.EPERM,
	})
	c := startChild(t)
	self0, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.cmd.Process.Pid))

	// Not configured: nothing is asked.
	b.Arm(true)
	if got := c.do("read", tree+"/secret"); got != "ok" || len(w.take()) != 0 {
		t.Fatalf("without a scope: outcome %s, asked %v; want ok, nothing", got, w.take())
	}
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, verb, path, want string
		asked                  []string
	}{
		{"refused open", "read", tree + "/secret", "EACCES", []string{"open " + tree + "/secret access=1 exe=" + self0}},
		{"allowed open", "read", tree + "/sub/plain", "ok", []string{"open " + tree + "/sub/plain access=1 exe=" + self0}},
		{"append", "write", tree + "/sub/plain", "ok", []string{"open " + tree + "/sub/plain access=10 exe=" + self0}},
		{"created file", "create", tree + "/newborn", "ENOENT", []string{"open " + tree + "/newborn access=34 exe=" + self0}},
		{"below a mount in the tree", "read", tree + "/mnt/below", "EPERM", []string{"open " + tree + "/mnt/below access=1 exe=" + self0}},
		{"outside the tree", "read", outside + "/secret", "ok", nil},
		{"allowed exec", "exec", tree + "/good", "ok", []string{"exec " + tree + "/good access=4 exe=" + self0}},
		{"refused exec", "exec", tree + "/bad", "EPERM", []string{"exec " + tree + "/bad access=4 exe=" + self0}},
		{"exec outside", "exec", outside + "/bad", "ok", nil},
		{"script", "exec", tree + "/script", "ok", []string{"exec " + tree + "/script access=4 exe=" + self0, "exec " + tree + "/good access=4 exe=" + self0}},
		{"script with a refused interpreter", "exec", tree + "/badscript", "EPERM", []string{"exec " + tree + "/badscript access=4 exe=" + self0, "exec " + tree + "/bad access=4 exe=" + self0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w.take()
			if got := c.do(tc.verb, tc.path); got != tc.want {
				t.Errorf("%s %s: %s, want %s; asked %v", tc.verb, tc.path, got, tc.want, w.take())
				return
			}
			if got := w.take(); fmt.Sprint(got) != fmt.Sprint(tc.asked) {
				t.Errorf("asked %v, want %v", got, tc.asked)
			}
		})
	}

	w.mu.Lock()
	comm := filepath.Base(self0)
	comm = comm[:min(len(comm), 15)] // TASK_COMM_LEN
	if !maps.Equal(w.comms, map[string]bool{comm: true}) {
		t.Errorf("asked by %v, want %s alone", slices.Collect(maps.Keys(w.comms)), comm)
	}
	w.mu.Unlock()

	// A change of scope is one store: the new one holds, the old one does not.
	if err := b.Configure(Scope{Trees: []string{outside}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	if got := c.do("read", tree+"/secret"); got != "ok" {
		t.Errorf("out of the new scope: %s, want ok", got)
	}
	w.take()
	c.do("read", outside+"/secret")
	if got := w.take(); len(got) != 1 {
		t.Errorf("in the new scope: asked %v, want once", got)
	}

	// A scope that cannot be changes nothing.
	if err := b.Configure(Scope{Trees: []string{tree + "/nowhere"}}, policyAll([abi.EventCount]abi.Verdict{})); err == nil {
		t.Error("a scope path that does not exist was taken")
	}
	w.take()
	c.do("read", outside+"/secret")
	if got := w.take(); len(got) != 1 {
		t.Errorf("after a refused change: asked %v, want once", got)
	}

	// Our own opens never queue.
	w.take()
	if err := openClose(outside+"/secret", unix.O_RDONLY); err != nil {
		t.Error(err)
	}
	if got := w.take(); len(got) != 0 {
		t.Errorf("the daemon's own open was asked about: %v", got)
	}
	checkCounts(t, b)
}

// Every outcome is counted exactly once, and almost all were answered.
func checkCounts(t *testing.T, b *LSM) {
	t.Helper()
	for e := abi.EventOpen; e < abi.EventCount; e++ {
		c, err := b.Counts(e)
		if err != nil {
			t.Fatal(err)
		}
		outcomes := c.Answered
		for _, n := range c.Failed {
			outcomes += n
		}
		if c.Asked != outcomes {
			t.Errorf("%s: %+v does not add up", e, c)
		}
	}
}

func TestLSMFailureVerdicts(t *testing.T) {
	failures := make(chan *abi.Failure, 16)
	const wait = 20 * time.Millisecond
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: wait, OnFailure: func(f *abi.Failure) { failures <- f }})
	tree := t.TempDir()
	mustWrite(t, tree+"/file", []byte("x"), 0o644)
	c := startChild(t)
	var onFail [abi.EventCount]abi.Verdict
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll(onFail)); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)

	// Nobody works: open, by default.
	if got := c.do("read", tree+"/file"); got != "ok" {
		t.Errorf("failure verdict of an open system: %s, want ok", got)
	}
	onFail[abi.EventOpen].Errno = uint16(unix.EACCES)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll(onFail)); err != nil {
		t.Fatal(err)
	}
	if got := c.do("read", tree+"/file"); got != "EACCES" {
		t.Errorf("failure verdict of a closed system: %s, want EACCES", got)
	}
	for i, want := range []uint16{0, uint16(unix.EACCES)} {
		select {
		case f := <-failures:
			if f.Reason != abi.ReasonDeadline || f.Verdict.Errno != want || string(f.Path()) != tree+"/file" || int(f.TGID) != c.cmd.Process.Pid {
				t.Errorf("notice %d: %s errno %d %q by %d, want deadline, %d, the file, the subject", i, f.Reason, f.Verdict.Errno, f.Path(), f.TGID, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("no notice of a failure verdict")
		}
	}

	// A task that is killed while it is held ends at once, and its slot is free.
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.queue.Header().WaitNS = uint64(10 * time.Second)
	fmt.Fprintln(c.in, "read", tree+"/file")
	asking := func() bool {
		c, err := b.Counts(abi.EventOpen)
		return err == nil && c.Asked == 3
	}
	if !waitFor(asking) {
		t.Fatal("the subject does not ask")
	}
	start := time.Now()
	c.cmd.Process.Kill()
	c.cmd.Wait()
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("SIGKILL took %v", d)
	}
	for i := range abi.Slots {
		if s := abi.Word(atomic.LoadUint64(&b.queue.Slot(i).Word)).State(); s != abi.Free {
			t.Errorf("slot %d is %s after its task died", i, s)
		}
	}
	counts, err := b.Counts(abi.EventOpen)
	if err != nil {
		t.Fatal(err)
	}
	if counts.Killed != 1 || counts.Failed[abi.ReasonInterrupted] != 1 {
		t.Errorf("counts %+v, want one killed and interrupted", counts)
	}
	checkCounts(t, b)
}

// Paths are bytes: a newline, invalid UTF-8, and the longest there can be.
func TestLSMPaths(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	w := startWorker(t, b, nil)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	odd := tree + "/new\nline\xff\x1b[31m"
	mustWrite(t, odd, []byte("x"), 0o644)

	// 4,095 bytes, the longest that open(2) takes, made relative to its parent.
	long := tree
	for len(long)+1+200 < abi.PathBytes-1 {
		long += "/" + strings.Repeat("d", 200)
	}
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	long += "/" + strings.Repeat("f", abi.PathBytes-1-len(long)-1)
	mustWrite(t, long, []byte("x"), 0o644)
	if len(long) != abi.PathBytes-1 {
		t.Fatalf("the long path has %d bytes", len(long))
	}
	for _, path := range []string{odd, long} {
		cmd := exec.Command("/proc/self/exe", "serve")
		cmd.Env = append(os.Environ(), subjectEnv+"=1")
		// The subject's protocol is lines and words: hand the path down as a link
		// outside of the tree.
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		link := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout = strings.NewReader("read "+link+"\n"), &out
		w.take()
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(out.String()); got != "ok" {
			t.Errorf("open of %q: %s", path, got)
		}
		asked := w.take()
		if len(asked) != 1 || !strings.HasPrefix(asked[0], "open "+path+" access=1 ") {
			t.Errorf("asked %.300q, want once about %.100q", asked, path)
		}
	}
}

func waitFor(cond func() bool) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); runtime.Gosched() {
		if cond() {
			return true
		}
	}
	return false
}

func mustMkdir(t *testing.T, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func mustWrite(t *testing.T, path string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, b, mode); err != nil {
		t.Fatal(err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// siege is a daemon that protects itself and a place, and an attacker that is neither
// its parent nor its child.
type siege struct {
	daemon, attacker *actor
	dir              string
	bpf, pins        string // each a bpffs
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	if os.Getenv("ARBITER_VM") == "" {
		t.Skip("runs only inside the virtual machine: make vm")
	}
	s := &siege{dir: filepath.Join(t.TempDir(), "way"), bpf: t.TempDir(), pins: t.TempDir()}
	for _, at := range []string{s.bpf, s.pins} {
		mountBPF(t, at)
		t.Cleanup(func() { // when the daemon has ended, and a moment later the protection
			var err error
			for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
				if err = unix.Unmount(at, unix.MNT_DETACH); !errors.Is(err, unix.EPERM) {
					return // an attack may have done it
				}
			}
			t.Errorf("the bpffs cannot be unmounted after the daemon's end: %v", err)
		})
	}
	s.daemon, s.attacker = startActor(t, "daemon"), startActor(t, "attacker")
	s.daemon.must("fill", s.dir, s.bpf)
	if got := s.daemon.do("open"); got != "missing []" {
		t.Fatalf("opening the protection: %s, want nothing missing", got)
	}
	for _, path := range []string{s.dir + "/config", s.dir + "/state", s.bpf} {
		s.daemon.must("file", path)
	}
	return s
}

func mountBPF(t *testing.T, at string) {
	t.Helper()
	if err := unix.Mount("bpf", at, "bpf", 0, ""); err != nil {
		t.Fatalf("mounting a bpffs: %v", err)
	}
}

// attack is a line for the attacker; D is the daemon, MAP and PROG are ids of its, DIR is
// what fill has made, BPF the bpffs.
type attack struct {
	line string
	hook string // that refuses it
	path string // in the notice
}

var allAttacks = []attack{
	{"kill D 10", "task_kill", ""},
	{"kill D 9", "task_kill", ""},
	{"ptrace D", "ptrace_access_check", ""},
	{"mem D", "ptrace_access_check", ""},
	{"vmread D", "ptrace_access_check", ""},
	{"getfd D", "ptrace_access_check", ""},
	{"affinity D", "task_setscheduler", ""},
	{"nice D", "task_setnice", ""},
	{"ioprio D", "task_setioprio", ""},
	{"prlimit D", "task_setrlimit", ""},
	{"mapwrite MAP", "bpf_map", ""},
	{"prog PROG", "bpf_prog", ""},
	{"write DIR/config", "file_open", "DIR/config"},
	{"write DIR/state/current", "file_open", "DIR/state/current"},
	{"write DIR/state/aside/deep", "file_open", "DIR/state/.../deep"},
	{"truncate DIR/config", "inode_setattr", "DIR/config"},
	{"chmod DIR/config", "inode_setattr", "DIR/config"},
	{"chown DIR/state", "inode_setattr", "DIR/state"},
	{"chattr DIR/state", "file_ioctl", "DIR/state"},
	{"setxattr DIR/config", "inode_setxattr", "DIR/config"},
	{"removexattr DIR/config", "inode_removexattr", "DIR/config"},
	{"create DIR/state/new", "inode_create", "DIR/state/new"},
	{"mkdir DIR/state/newdir", "inode_mkdir", "DIR/state/newdir"},
	{"link DIR/state/current DIR/out/link", "inode_link", "DIR/state/current"},
	{"unlink DIR/state/gone", "inode_unlink", "DIR/state/gone"},
	{"mknod DIR/state/gone", "inode_mknod", "DIR/state/gone"},
	{"unlink DIR/state/gone", "inode_unlink", "DIR/state/gone"},
	{"symlink DIR/state/gone", "inode_symlink", "DIR/state/gone"},
	{"rmdir DIR/state/empty", "inode_rmdir", "DIR/state/empty"},
	{"rename DIR/config.new DIR/config", "inode_rename", "DIR/config"},
	{"move DIR/state DIR/elsewhere", "inode_rename", "DIR/state"},
	{"move DIR DIR2", "inode_rename", "DIR"},
	{"over DIR/state", "sb_mount", "DIR/state"},
	{"over DIR", "sb_mount", "DIR"},
	{"bind DIR/out/file DIR/state/current", "sb_mount", "DIR/state/current"},
	{"umount DIR/state/current", "", ""}, // of the one before
	{"rmdir BPF/pins/deeper", "inode_rmdir", "BPF/.../deeper"},
	{"rmdir BPF/pins", "inode_rmdir", "BPF/pins"},
	{"umount BPF", "sb_umount", "BPF"},
}

func (s *siege) replacer() *strings.Replacer {
	return strings.NewReplacer("DIR", s.dir, "BPF", s.bpf, "MAP", s.daemon.do("map"), "PROG", s.daemon.do("prog"), "D", s.daemon.pid())
}

// TestProtection has one siege: starting one is slow in an emulated machine.
func TestProtection(t *testing.T) {
	s := newSiege(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, *siege)
	}{{"leaves alone", leavesAlone}, {"refuses", refuses}, {"the backend", refusesOfTheLSM}, {"tokens", letsHoldersThrough}, {"closed", letsAllThrough}} {
		s.daemon.must("fill", s.dir, s.bpf)
		t.Run(part.name, func(t *testing.T) { part.run(t, s) })
	}
}

func refuses(t *testing.T, s *siege) {
	names := s.replacer()
	for _, a := range allAttacks {
		if a.hook == "" {
			continue
		}
		before := s.daemon.do("counter", "refused."+a.hook)
		line := strings.Fields(names.Replace(a.line))
		if a.hook == "inode_mknod" || a.hook == "inode_symlink" {
			line[1] += ".new" // the name is taken as long as nobody may remove it
			a.path += ".new"
		}
		want := "EPERM"
		if strings.HasPrefix(a.line, "mem ") {
			want = "EACCES" // which /proc/PID/mem makes of it
		}
		if got := s.attacker.do(line...); got != want {
			t.Errorf("%s: %s, want %s", a.line, got, want)
		}
		if after := s.daemon.do("counter", "refused."+a.hook); after == before {
			t.Errorf("%s: refused.%s is still %s", a.line, a.hook, after)
		}
		i := hookIndex(t, a.hook)
		s.awaitRefusal(t, a.line, a.hook+"|"+guardHooks[i].event.String()+"|"+s.attacker.pid()+"|"+names.Replace(a.path))
	}
	// The signal of the kernel for a pipe that is ready: nobody is told but the counter.
	s.attacker.do("sigio", s.daemon.pid(), "9")
	if got := s.daemon.do("counter", "refused.file_send_sigiotask"); got == "0" {
		t.Errorf("a signal by way of SIGIO: refused %s times, want at least 1", got)
	}
}

func hookIndex(t *testing.T, name string) int {
	t.Helper()
	for i := range guardHooks {
		if guardHooks[i].name == name {
			return i
		}
	}
	t.Fatalf("no hook %s", name)
	return 0
}

// awaitRefusal waits until the daemon was told.
func (s *siege) awaitRefusal(t *testing.T, what, want string) {
	t.Helper()
	got := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if got = s.daemon.do("refused", want); got == "ok" {
			return
		}
	}
	t.Errorf("%s: the daemon was told %s, want %s", what, got, want)
}

// all wants every attack to succeed.
func (s *siege) all(t *testing.T, names *strings.Replacer) {
	t.Helper()
	for _, a := range allAttacks {
		if a.line == "kill D 9" {
			continue
		}
		if got := s.attacker.do(strings.Fields(names.Replace(a.line))...); got != "ok" {
			t.Errorf("%s: %s, want ok", a.line, got)
		}
	}
}

// The holder of a token may do all of it.
func letsHoldersThrough(t *testing.T, s *siege) {
	s.daemon.must("token", s.attacker.pid(), "1ns")
	if got := s.attacker.do("write", s.dir+"/config"); got != "EPERM" {
		t.Errorf("writing after the token's time: %s, want EPERM", got)
	}
	s.daemon.must("token", strconv.Itoa(os.Getpid()), "1m") // its parent
	s.attacker.must("write", s.dir+"/config")
	s.daemon.must("untoken")
	if got := s.attacker.do("write", s.dir+"/config"); got != "EPERM" {
		t.Errorf("writing after the token was taken back: %s, want EPERM", got)
	}
	s.daemon.must("token", s.attacker.pid(), "10m")
	if got := startActor(t, "attacker").do("ptrace", s.attacker.pid()); got != "EPERM" {
		t.Errorf("tracing the holder: %s, want EPERM", got)
	}
	s.all(t, s.replacer())
	if got := s.daemon.do("counter", "maintained.bpf_prog"); got != "1" {
		t.Errorf("maintained.bpf_prog: %s, want 1", got)
	}
	s.daemon.must("untoken")
	mountBPF(t, s.bpf) // the holder has unmounted it
}

// So may everybody after Close.
func letsAllThrough(t *testing.T, s *siege) {
	names := s.replacer()
	for _, a := range []string{"write DIR/state/current", "mapwrite MAP", "prog PROG"} {
		if got := s.attacker.do(strings.Fields(names.Replace(a))...); got != "EPERM" {
			t.Fatalf("%s before Close: %s, want EPERM", a, got)
		}
	}
	other := s.daemon.do("other")
	s.daemon.must("close")
	s.all(t, strings.NewReplacer("mapwrite MAP", "mapwrite "+other, "prog PROG", "status "+s.daemon.pid(), "DIR", s.dir, "BPF", s.bpf, "D", s.daemon.pid()))
	s.attacker.must("kill", s.daemon.pid(), "9")
}

// What is nobody's business, or harmless, goes on.
func leavesAlone(t *testing.T, s *siege) {
	other := startActor(t, "attacker")
	other.must("status", other.pid()) // it has its signal handlers
	names := s.replacer()
	for _, line := range []string{
		"kill D 0", "kill D 1", "kill D 18", "status D", "read DIR/config", "read DIR/state/current", "mapread MAP",
		"mapwrite OTHER", "write DIR/out/file", "unlink DIR/out/file", "create DIR/out/file", "chmod DIR/out", "over DIR/out",
		"rename DIR/config.new DIR/config.old", "overapart DIR private", "overapart DIR/state private",
		"kill A 10", "ptrace A", "affinity A", "nice A", "prlimit A", "getfd A",
	} {
		words := strings.Fields(line)
		for i, w := range words {
			switch w {
			case "OTHER":
				words[i] = s.daemon.do("other")
			case "A":
				words[i] = other.pid()
			default:
				words[i] = names.Replace(w)
			}
		}
		if got := s.attacker.do(words...); got != "ok" {
			t.Errorf("%s: %s, want ok", line, got)
		}
	}
	// The daemon itself.
	for _, line := range []string{"write DIR/config", "unlink DIR/state/gone", "rename DIR/state/aside/deep DIR/state/current", "mapwrite MAP", "kill D 10"} {
		if got := s.daemon.do(strings.Fields(names.Replace(line))...); got != "ok" {
			t.Errorf("the daemon: %s: %s, want ok", line, got)
		}
	}
	// A bind mount of what is protected can be undone.
	if err := os.Mkdir(s.dir+"/out/bound", 0o755); err != nil {
		t.Fatal(err)
	}
	s.attacker.must("bind", s.dir+"/state", s.dir+"/out/bound")
	if got := s.attacker.do("write", s.dir+"/out/bound/current"); got != "EPERM" {
		t.Errorf("writing by way of a bind mount: %s, want EPERM", got)
	}
	s.attacker.must("umount", s.dir+"/out/bound")
}

// A mount in another namespace reaches the daemon where the mount is shared.
func TestProtectionSharedMounts(t *testing.T) {
	s := newSiege(t)
	if err := unix.Mount("none", s.dir+"/out", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() {
		s.daemon.must("close")
		if err := unix.Unmount(s.dir+"/out", unix.MNT_DETACH); err != nil {
			t.Errorf("unmounting after Close: %v", err)
		}
	}()
	if err := unix.Mount("", s.dir+"/out", "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.dir+"/out/kept", 0o755); err != nil {
		t.Fatal(err)
	}
	s.daemon.must("file", s.dir+"/out/kept")
	if got := s.attacker.do("overapart", s.dir+"/out/kept", "shared"); got != "EPERM" {
		t.Errorf("mounting over it where that is propagated: %s, want EPERM", got)
	}
	s.attacker.must("overapart", s.dir+"/out/kept", "private")
}

// The backend's maps, programs and helpers are protected, those that come later too.
func refusesOfTheLSM(t *testing.T, s *siege) {
	pins := s.daemon.do("lsm", s.pins+"/arbiter", s.dir+"/out/glass")
	if _, err := os.Stat(pins + "/arb_exit"); err != nil {
		t.Fatalf("the pins: %v, %s", err, pins)
	}
	for _, what := range [][]string{{"mapwrite", s.daemon.do("lsmmap")}, {"prog", s.daemon.do("lsmprog", "file_open")}, {"prog", s.daemon.do("lsmprog", "path_mkdir")},
		{"mapwrite", s.daemon.do("glass")}, {"unlink", pins + "/arb_exit"}, {"move", pins, pins + "2"}, {"move", s.pins + "/arbiter", s.pins + "/other"},
		{"mkdir", pins + "/new"}, {"over", pins}, {"umount", s.pins}} {
		if got := s.attacker.do(what...); got != "EPERM" {
			t.Errorf("%v: %s, want EPERM", what, got)
		}
	}
	helper := s.daemon.do("helper")
	if helper == "0" {
		t.Log("there is no gate on this kernel")
		return
	}
	for range 2 {
		for _, what := range [][]string{{"kill", helper, "9"}, {"kill", helper, "1"}, {"ptrace", helper}} {
			if got := s.attacker.do(what...); got != "EPERM" {
				t.Errorf("%v of the helper: %s, want EPERM", what, got)
			}
		}
		s.daemon.must("kill", helper, "9")
		before := helper
		for end := time.Now().Add(20 * time.Second); helper == before || helper == "0"; helper = s.daemon.do("helper") {
			if time.Now().After(end) {
				t.Fatal("no other helper was started")
			}
		}
	}
}

// killByInit has process 1 send a signal, which it would not do by itself: its first
// thread makes the system call in the place of the one that it waits in.
func killByInit(pid int, sig unix.Signal) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.PtraceSeize(1); err != nil {
		return fmt.Errorf("seizing process 1: %w", err)
	}
	defer unix.PtraceDetach(1)
	var status unix.WaitStatus
	var before, regs unix.PtraceRegs
	// It waits in a system call nearly always. Where it is met between two, it goes on and is
	// stopped again.
	for end := time.Now().Add(10 * time.Second); ; {
		if err := unix.PtraceInterrupt(1); err != nil {
			return fmt.Errorf("interrupting process 1: %w", err)
		}
		if _, err := unix.Wait4(1, &status, unix.WALL, nil); err != nil {
			return fmt.Errorf("waiting for process 1: %w", err)
		}
		if err := unix.PtraceGetRegs(1, &before); err != nil {
			return fmt.Errorf("reading the registers of process 1: %w", err)
		}
		if int64(before.Orig_rax) >= 0 {
			break
		}
		if time.Now().After(end) {
			return errors.New("process 1 was in no system call for 10 s")
		}
		sig := 0
		if status.TrapCause() != unix.PTRACE_EVENT_STOP {
			sig = int(status.StopSignal()) // on its way to it
		}
		if err := unix.PtraceCont(1, sig); err != nil {
			return fmt.Errorf("letting process 1 go on: %w", err)
		}
	}
	regs = before
	regs.Rip -= 2 // the syscall instruction
	regs.Orig_rax, regs.Rax, regs.Rdi, regs.Rsi = ^uint64(0), unix.SYS_KILL, uint64(pid), uint64(sig)
	err := unix.PtraceSetRegs(1, &regs)
	if err == nil {
		err = unix.PtraceSingleStep(1)
	}
	if err == nil {
		_, err = unix.Wait4(1, &status, unix.WALL, nil)
	}
	if err == nil {
		err = unix.PtraceGetRegs(1, &regs)
	}
	if err == nil {
		err = unix.PtraceSetRegs(1, &before)
	}
	if err != nil {
		return fmt.Errorf("running a system call in process 1: %w", err)
	}
	if n := int64(regs.Rax); n < 0 {
		return unix.Errno(-n)
	}
	return nil
}

// The service manager ends the daemon, and then nothing is protected, even if somebody
// keeps the programs attached.
func TestProtectionEndsWithTheDaemon(t *testing.T) {
	s := newSiege(t)
	if got := s.attacker.do("write", s.dir+"/config"); got != "EPERM" {
		t.Fatalf("writing: %s, want EPERM", got)
	}
	if got := s.attacker.do("holdlinks"); got != "true" {
		t.Fatalf("keeping the links: %s, want true", got)
	}
	if err := s.daemon.cmd.Process.Signal(unix.SIGUSR1); err != nil { // which it ignores
		t.Errorf("a signal of the parent: %v", err)
	}
	if got := s.daemon.do("counter", "by_manager.task_kill"); got != "1" {
		t.Errorf("by_manager.task_kill: %s, want 1", got)
	}
	// Process 1 is no parent of it here: that is us.
	if err := killByInit(s.daemon.cmd.Process.Pid, unix.SIGKILL); err != nil {
		t.Fatalf("SIGKILL of process 1: %v", err)
	}
	s.daemon.cmd.Wait()
	got := ""
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		// A moment later: what is left of a task is freed after a grace period.
		if got = s.attacker.do("write", s.dir+"/config"); got == "ok" {
			return
		}
	}
	t.Errorf("writing after the daemon's end: %s, want ok", got)
}

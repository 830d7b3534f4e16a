// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

var taskVerbs = map[string]verb{
	"kill": func(a []string) error { return unix.Kill(atoi(a[0]), syscall.Signal(atoi(a[1]))) },
	"pidfd-kill": func(a []string) error {
		fd, err := unix.PidfdOpen(atoi(a[0]), 0)
		if err != nil {
			return fmt.Errorf("before: %v", err)
		}
		defer unix.Close(fd)
		return unix.PidfdSendSignal(fd, syscall.Signal(atoi(a[1])), nil, 0)
	},
	"tgkill": func(a []string) error {
		return unix.Tgkill(atoi(a[0]), atoi(a[0]), syscall.Signal(atoi(a[1])))
	},
	"attach-to": func(a []string) error { // on this thread, which is locked
		pid := atoi(a[0])
		if err := unix.PtraceAttach(pid); err != nil {
			return err
		}
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
			return fmt.Errorf("after: %v", err)
		}
		return unix.PtraceDetach(pid)
	},
	"seize": func(a []string) error {
		pid := atoi(a[0])
		if err := unix.PtraceSeize(pid); err != nil {
			return err
		}
		if err := unix.PtraceInterrupt(pid); err != nil {
			return fmt.Errorf("after: %v", err)
		}
		if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
			return fmt.Errorf("after: %v", err)
		}
		return unix.PtraceDetach(pid)
	},
	"vm-read": func(a []string) error { return rawVMRead(atoi(a[0])) },
	"mem":     func(a []string) error { return openClose("/proc/"+a[0]+"/mem", unix.O_RDONLY) },
	"traceme": func(a []string) error {
		cmd := exec.Command("/proc/self/exe")
		cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		if err := cmd.Start(); err != nil {
			return err
		}
		cmd.Process.Kill()
		cmd.Wait()
		return nil
	},
	"setresuid": func(a []string) error { return id3(unix.SYS_SETRESUID, a) },
	"setresgid": func(a []string) error { return id3(unix.SYS_SETRESGID, a) },
	"setuid":    func(a []string) error { return id3(unix.SYS_SETUID, append(a, "0", "0")) },
	"setfsuid": func(a []string) error { // tells no errors; what is in force is what it returns next time
		return onThread(func() error {
			unix.RawSyscall(unix.SYS_SETFSUID, uintptr(atoi(a[0])), 0, 0)
			now, err := os.ReadFile("/proc/thread-self/status")
			if err != nil {
				return err
			}
			_, uids, _ := strings.Cut(string(now), "\nUid:")
			line, _, _ := strings.Cut(uids, "\n")
			if f := strings.Fields(line); f[len(f)-1] != a[0] {
				return fmt.Errorf("unchanged")
			}
			return nil
		})
	},
	"lead":        func(a []string) error { return unix.Setpgid(0, 0) },
	"sethostname": func(a []string) error { return unix.Sethostname([]byte("host")) },
	"unshare-user": func(a []string) error {
		cmd := exec.Command("/proc/self/exe")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
		return cmd.Run()
	},
	"prctl": func(a []string) error {
		return sysno(unix.RawSyscall6(unix.SYS_PRCTL, uintptr(atoi(a[0])), uintptr(atoi(a[1])), uintptr(atoi(a[2])), uintptr(atoi(a[3])), uintptr(atoi(a[4])), 0))
	},
}

// id3 sets ids of a thread that ends then.
func id3(nr uintptr, a []string) error {
	return onThread(func() error {
		return sysno(unix.RawSyscall(nr, uintptr(atoi(a[0])), uintptr(atoi(a[1])), uintptr(atoi(a[2]))))
	})
}

func TestLSMEventsTasks(t *testing.T) {
	s := newStage(t)
	target := startVerbs(t, s.away+"/subject") // what is done to others is done to it
	pid := target.cmd.Process.Pid
	if got := target.do("lead", "-"); got != "ok" { // a process group
		t.Fatal(got)
	}
	to := func(verb string, a ...any) string {
		return strings.TrimSpace(fmt.Sprintln(append([]any{verb, pid}, a...)...))
	}
	dead := startVerbs(t, s.away+"/subject")
	if err := dead.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, dead.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	sig := func(n int) map[string]uint64 {
		return map[string]uint64{"signal": uint64(n), "target_pid": uint64(pid), "target_uid": 0}
	}
	const attach, realCreds, fsCreds = 2, 0x10, 8
	mode := func(m uint64) map[string]uint64 {
		return map[string]uint64{"mode": m, "target_pid": uint64(pid), "target_uid": 0}
	}
	away := s.away + "/subject"
	const winch = int(unix.SIGWINCH)
	prctl := map[string]uint64{"option": unix.PR_SET_TIMERSLACK, "arg2": 50001, "arg3": 2, "arg4": 3, "arg5": 4}
	s.run(t, []eventCase{
		{event: abi.EventSignal, do: to("kill", winch), path: away, args: sig(winch), bySubject: true, restarts: true},
		{name: "test", event: abi.EventSignal, do: to("kill", 0), path: away, args: sig(0), bySubject: true, restarts: true},
		{name: "to a thread", event: abi.EventSignal, do: to("tgkill", winch), path: away, args: sig(winch), bySubject: true, restarts: true},
		{name: "by pidfd", event: abi.EventSignal, do: to("pidfd-kill", winch), path: away, args: sig(winch), bySubject: true, restarts: true},
		{name: "to a zombie", event: abi.EventSignal, do: fmt.Sprintf("kill %d %d", dead.cmd.Process.Pid, winch),
			args: map[string]uint64{"signal": uint64(winch), "target_pid": uint64(dead.cmd.Process.Pid), "target_uid": 0}, bySubject: true, restarts: true},
		{name: "to a group", event: abi.EventSignal, do: fmt.Sprintf("kill -%d %d", pid, winch), path: away, args: sig(winch), bySubject: true},

		{event: abi.EventPtrace, do: to("attach-to"), path: away, args: mode(attach | realCreds), bySubject: true, restarts: true},
		{name: "seize", event: abi.EventPtrace, do: to("seize"), path: away, args: mode(attach | realCreds), bySubject: true, restarts: true},
		{name: "process_vm_readv", event: abi.EventPtrace, do: to("vm-read"), path: away, args: mode(attach | realCreds), bySubject: true, refused: "EPERM", allowed: "EFAULT"},
		{name: "of memory in proc", event: abi.EventPtrace, do: to("mem"), path: away, args: mode(attach | fsCreds), bySubject: true, refused: "EACCES"},
		{name: "PTRACE_TRACEME", event: abi.EventPtrace, do: "traceme", path: s.exe,
			args: map[string]uint64{"mode": 0, "target_pid": uint64(s.inside.cmd.Process.Pid), "target_uid": 0}, bySubject: true},

		{event: abi.EventSetUID, do: "setresuid 0 1 2", args: map[string]uint64{"uid": 0, "euid": 1, "suid": 2}, bySubject: true, restarts: true},
		{name: "all", event: abi.EventSetUID, do: "setuid 5", args: map[string]uint64{"uid": 5, "euid": 5, "suid": 5}, bySubject: true, restarts: true},
		{name: "setfsuid", event: abi.EventSetUID, do: "setfsuid 7", args: map[string]uint64{"uid": 0, "euid": 0, "suid": 0}, bySubject: true, refused: "unchanged"},
		{event: abi.EventSetGID, do: "setresgid 1 2 3", args: map[string]uint64{"gid": 1, "egid": 2, "sgid": 3}, bySubject: true, restarts: true},
		{event: abi.EventCapable, do: "sethostname", args: map[string]uint64{"capability": unix.CAP_SYS_ADMIN}, bySubject: true, refused: "EPERM"},
		{event: abi.EventUserNSCreate, do: "unshare-user", bySubject: true},
		{event: abi.EventPrctl, do: "prctl 29 50001 2 3 4", args: prctl, bySubject: true},
	})

	// A refusal with the errno by which the hook says that it does not mind is one too.
	s.about(t, abi.EventPrctl)
	s.w.errno.Store(uint32(unix.ENOSYS))
	tc := eventCase{event: abi.EventPrctl, do: "prctl 29 50001 2 3 4"}
	if got, _ := s.prompt(t, &tc, s.inside, s.tree); got != "EPERM" {
		t.Errorf("prctl refused with ENOSYS: %s, want EPERM", got)
	}
}

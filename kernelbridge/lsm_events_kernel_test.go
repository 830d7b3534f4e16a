// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

const page = 4096

var kernelVerbs = map[string]verb{
	"mmap": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error { return mapped(fd, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE, nil) })
	},
	"mmap-anonymous": func(a []string) error {
		return mapped(-1, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, nil)
	},
	"spawn": func(a []string) error { return exec.Command(a[0]).Run() },
	"mprotect": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error {
			return mapped(fd, unix.PROT_READ, unix.MAP_PRIVATE, func(b []byte) error { return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC) })
		})
	},
	"mprotect-anonymous": func(a []string) error {
		return mapped(-1, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON, func(b []byte) error { return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC) })
	},
	// Several mappings in one call: each second page is another one.
	"mprotect-many": func(a []string) error {
		n := atoi(a[0])
		b, err := unix.Mmap(-1, 0, n*page, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return fmt.Errorf("before: %v", err)
		}
		for i := 0; i < n; i += 2 {
			if err := unix.Mprotect(b[i*page:(i+1)*page], unix.PROT_READ|unix.PROT_WRITE); err != nil {
				return fmt.Errorf("before: %v", err)
			}
		}
		return errors.Join(unix.Mprotect(b, unix.PROT_EXEC), unix.Munmap(b))
	},
	"finit_module": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error { return unix.FinitModule(fd, "", 0) })
	},
	"init_module": func(a []string) error { return unix.InitModule(make([]byte, page), "") },
	"kexec": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error { return unix.KexecFileLoad(fd, -1, "", unix.KEXEC_FILE_NO_INITRAMFS) })
	},
	"bpf": func(a []string) error { // of an id that there is not
		attr := make([]byte, 12)
		binary.NativeEndian.PutUint32(attr, 1<<30)
		_, err := rawBPF(unix.BPF_PROG_GET_FD_BY_ID, attr)
		return err
	},
	"bpf-map": func(a []string) error {
		attr := make([]byte, 20)
		for i, v := range []uint32{2 /* array */, 4, 8, 1} {
			binary.NativeEndian.PutUint32(attr[i*4:], v)
		}
		fd, err := rawBPF(unix.BPF_MAP_CREATE, attr)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	},
	"bpf-prog": func(a []string) error {
		fd, err := rawLoadProg()
		if err != nil {
			return err
		}
		return unix.Close(fd)
	},
	"settime": func(a []string) error {
		return unix.ClockSettime(unix.CLOCK_REALTIME, &unix.Timespec{Sec: int64(atoi(a[0]))})
	},
	"getfd": func(a []string) error { // its own, as from another process
		return withFile(a[0], unix.O_RDONLY, func(fd int) error {
			self, err := unix.PidfdOpen(os.Getpid(), 0)
			if err != nil {
				return fmt.Errorf("before: %v", err)
			}
			defer unix.Close(self)
			got, err := unix.PidfdGetfd(self, fd, 0)
			if err != nil {
				return err
			}
			return unix.Close(got)
		})
	},
	"recvmsg": func(a []string) error {
		return withFile(a[0], unix.O_RDONLY, func(fd int) error {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return fmt.Errorf("before: %v", err)
			}
			defer unix.Close(pair[0])
			defer unix.Close(pair[1])
			if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(fd), nil, 0); err != nil {
				return fmt.Errorf("before: %v", err)
			}
			var b [1]byte
			var oob [64]byte
			_, n, flags, _, err := unix.Recvmsg(pair[1], b[:], oob[:], 0)
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("message without the file, truncated %t", flags&unix.MSG_CTRUNC != 0)
			}
			return nil
		})
	},
}

// mapped maps memory and takes it away again.
func mapped(fd, prot, flags int, f func([]byte) error) error {
	b, err := unix.Mmap(fd, 0, page, prot, flags)
	if err != nil {
		return err
	}
	if f != nil {
		err = f(b)
	}
	return errors.Join(err, unix.Munmap(b))
}

func TestLSMEventsKernel(t *testing.T) {
	s := newStage(t)
	file, noFile := withNew("file")
	const readExec = unix.PROT_READ | unix.PROT_EXEC
	now := unix.Timespec{}
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		t.Fatal(err)
	}
	kind := func(n uint64) map[string]uint64 { return map[string]uint64{"kind": n} }
	s.run(t, []eventCase{
		{event: abi.EventMMapExec, do: "mmap $D/file", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"prot": readExec, "flags": unix.MAP_PRIVATE}},
		{name: "anonymous", event: abi.EventMMapExec, do: "mmap-anonymous", args: map[string]uint64{"prot": readExec, "flags": unix.MAP_PRIVATE | unix.MAP_ANON}, bySubject: true},
		{name: "of a program", event: abi.EventMMapExec, do: "spawn $D/subject", path: "$D/subject", args: map[string]uint64{"prot": readExec, "flags": anyNumber}, refused: "signal: segmentation fault"},
		{event: abi.EventMProtectExec, do: "mprotect $D/file", before: file, after: noFile, path: "$D/file", args: map[string]uint64{"prot": readExec, "address": anyNumber}, restarts: true},
		{name: "anonymous", event: abi.EventMProtectExec, do: "mprotect-anonymous", args: map[string]uint64{"prot": readExec, "address": anyNumber}, bySubject: true, restarts: true},
		{event: abi.EventModuleLoad, do: "finit_module $D/file", before: file, after: noFile, path: "$D/file", args: kind(2), allowed: "ENOEXEC"},
		{name: "from memory", event: abi.EventModuleLoad, do: "init_module", args: kind(2), bySubject: true, allowed: "ENOEXEC", restarts: true},
		{event: abi.EventReadFile, do: "kexec $D/file", before: file, after: noFile, path: "$D/file", args: kind(3), allowed: "ENOEXEC"},
		{event: abi.EventBPF, do: "bpf", args: map[string]uint64{"command": unix.BPF_PROG_GET_FD_BY_ID}, bySubject: true, allowed: "ENOENT"},
		{event: abi.EventBPFMap, do: "bpf-map", args: map[string]uint64{"id": anyNumber, "type": 2, "mode": 3}, bySubject: true},
		{event: abi.EventBPFProg, do: "bpf-prog", args: map[string]uint64{"id": anyNumber, "type": unix.BPF_PROG_TYPE_SOCKET_FILTER}, bySubject: true},
		{event: abi.EventSetTime, do: fmt.Sprint("settime ", now.Sec), args: map[string]uint64{"seconds": uint64(now.Sec)}, bySubject: true},
		{event: abi.EventReceive, do: "getfd $D/file", before: file, after: noFile, path: "$D/file"},
		{name: "by SCM_RIGHTS", event: abi.EventReceive, do: "recvmsg $D/file", before: file, after: noFile, path: "$D/file", refused: "message without the file, truncated true"},
	})
}

// A call that asks several questions under locks comes to its end, also when each of them
// takes long.
func TestLSMEventsManyQuestions(t *testing.T) {
	needUnwind(t)
	s := newStage(t)
	s.about(t, abi.EventMProtectExec)
	s.w.errno.Store(0)
	s.w.delay.Store(int64(held))
	for mappings, most := range map[int]int{1: 1, 2: 3, 4: 5} {
		tc := eventCase{event: abi.EventMProtectExec, do: fmt.Sprint("mprotect-many ", mappings)}
		got, asked, reasons := s.once(t, &tc, s.inside, s.tree)
		if got != "ok" || len(reasons) != 0 || len(asked) < mappings || len(asked) > most {
			t.Errorf("mprotect of %d mappings: %s, failure verdicts %v, asked %d times, want ok, none, %d to %d%s", mappings, got, reasons, len(asked), mappings, most, describe(asked))
		}
	}
	// More than can be kept: the failure verdict, in the end.
	tc := eventCase{event: abi.EventMProtectExec, do: "mprotect-many 16"}
	got, _, reasons := s.once(t, &tc, s.inside, s.tree)
	if got != unix.ErrnoName(failed) || len(reasons) != 1 || reasons[0] != abi.ReasonUnsupportedCaller {
		t.Errorf("mprotect of 16 mappings: %s, failure verdicts %v; want %s for %s", got, reasons, unix.ErrnoName(failed), abi.ReasonUnsupportedCaller)
	}
	// What was kept is freed by the daemon.
	freed := func() bool { return s.slotsInUse() == 0 }
	ok := waitFor(freed)
	if !ok {
		ok = waitFor(freed) // two looks, 2 s apart by the clock of the machine
	}
	if !ok {
		t.Errorf("%d slots are in use 10 s later", s.slotsInUse())
	}
}

// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// roleEnv makes the test binary a process that reads a line with a verb and its operands,
// does that, and prints a line with the outcome: "daemon" protects itself, "attacker"
// tries things.
const roleEnv = "ARBITER_TEST_ROLE"

// actor is such a process.
type actor struct {
	t   *testing.T
	cmd *exec.Cmd
	out *bufio.Scanner
	in  interface{ Write([]byte) (int, error) }
}

func startActor(t *testing.T, role string) *actor {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
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
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill() // we are its parent, which may
		cmd.Wait()
	})
	return &actor{t, cmd, bufio.NewScanner(out), in}
}

func (a *actor) pid() string { return strconv.Itoa(a.cmd.Process.Pid) }

// do has the actor do something and returns the outcome.
func (a *actor) do(words ...string) string {
	a.t.Helper()
	if _, err := fmt.Fprintln(a.in, strings.Join(words, " ")); err != nil {
		a.t.Fatalf("telling %v: %v", words, err)
	}
	if !a.out.Scan() {
		a.t.Fatalf("%v: no outcome: %v", words, a.out.Err())
	}
	return a.out.Text()
}

// must has it do something that has to work.
func (a *actor) must(words ...string) {
	a.t.Helper()
	if got := a.do(words...); got != "ok" {
		a.t.Fatalf("%v: %s, want ok", words, got)
	}
}

// act is the main function of an actor.
func act(role string) {
	runtime.LockOSThread() // ptrace(2) is a thread's business
	signal.Ignore(unix.SIGUSR1, unix.SIGHUP)
	verbs := attacks
	if role == "daemon" {
		verbs = new(guardedDaemon).verbs()
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		words := append(strings.Fields(in.Text()), "", "", "")
		verb, ok := verbs[words[0]]
		if !ok {
			verb, ok = attacks[words[0]]
		}
		if !ok {
			fmt.Println("no verb", words[0])
			continue
		}
		if text, err := verb(words[1], words[2]); err != nil {
			fmt.Println(outcome(err))
		} else if text != "" {
			fmt.Println(text)
		} else {
			fmt.Println("ok")
		}
	}
}

// guardedDaemon is a daemon as far as the protection knows.
type guardedDaemon struct {
	p     *Protection
	lsm   *LSM
	other *ebpf.Map
	end   func() error

	mu       sync.Mutex
	refusals []string
}

type deed = func(a, b string) (string, error)

func (d *guardedDaemon) verbs() map[string]deed {
	return map[string]deed{
		"open": func(string, string) (_ string, err error) {
			if d.other, err = ebpf.NewMap(&ebpf.MapSpec{Name: "foreign", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}); err != nil {
				return "", err
			}
			d.p, err = OpenProtection(ProtectionOptions{OnRefusal: func(r *Refusal) {
				d.mu.Lock()
				defer d.mu.Unlock()
				d.refusals = append(d.refusals, fmt.Sprintf("%s|%s|%d|%s", r.Hook, r.Event, r.TGID, r.Path))
			}})
			if err != nil {
				return "", err
			}
			return strings.ReplaceAll(fmt.Sprint("missing ", d.p.Missing()), "\n", " "), nil
		},
		"file": func(path, _ string) (string, error) { return "", d.p.ProtectFile(path) },
		"close": func(string, string) (string, error) {
			if d.lsm == nil {
				return "", d.p.Close()
			}
			return "", errors.Join(d.lsm.Close(), d.p.Close())
		},
		"map":   func(string, string) (string, error) { return mapID(d.p.maps.ArbPlaces) },
		"other": func(string, string) (string, error) { return mapID(d.other) },
		"prog": func(string, string) (string, error) {
			var id uint32
			var v uint32
			if it := d.p.maps.ArbProgIds.Iterate(); !it.Next(&id, &v) {
				return "", fmt.Errorf("no program: %w", it.Err())
			}
			return fmt.Sprint(id), nil
		},
		"token": func(pid, long string) (_ string, err error) {
			n, _ := strconv.Atoi(pid)
			t, err := time.ParseDuration(long)
			if err != nil {
				return "", err
			}
			d.end, err = d.p.BeginMaintenance(n, t)
			return "", err
		},
		"untoken": func(string, string) (string, error) { return "", errors.Join(d.end(), d.end()) },
		"counter": func(name, _ string) (string, error) {
			m, err := d.p.Counters()
			return fmt.Sprint(m[name]), err
		},
		"refused": func(want, _ string) (string, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			if slices.Contains(d.refusals, want) {
				return "", nil
			}
			return strings.Join(d.refusals, " "), nil
		},
		"fill": fill,
		"lsm": func(pins, glass string) (_ string, err error) {
			if d.lsm, err = OpenLSM(LSMOptions{CPUs: []int{-1}, Wait: MaxWait, Survive: &Survive{Dir: pins, BreakGlass: glass}}); err != nil {
				return "", err
			}
			return d.lsm.death.pins.dir, d.p.ProtectLSM(d.lsm)
		},
		"glass":  func(string, string) (string, error) { return mapID(d.lsm.death.objs.ArbGlass) },
		"lsmmap": func(string, string) (string, error) { return mapID(d.lsm.hooks.maps.ArbHeader) },
		"lsmprog": func(on, _ string) (string, error) {
			d.lsm.Unavailable(1<<abi.EventOpen | 1<<abi.EventMkdir) // loads it
			for _, h := range d.lsm.hooks.hooks {
				if h.name == on && h.prog != nil {
					info, err := h.prog.Info()
					if err != nil {
						return "", err
					}
					id, _ := info.ID()
					return fmt.Sprint(id), nil
				}
			}
			return "", errors.New("no program")
		},
		"helper": func(string, string) (string, error) {
			if d.lsm.gates == nil || d.lsm.gates.now.Load() == nil {
				return "0", nil
			}
			return fmt.Sprint(d.lsm.gates.now.Load().Identity().PID), nil
		},
	}
}

func mapID(m *ebpf.Map) (string, error) {
	info, err := m.Info()
	if err != nil {
		return "", err
	}
	id, _ := info.ID()
	return fmt.Sprint(id), nil
}

// fill makes what the attacks are about, below a directory; bpf is a bpffs.
func fill(dir, bpf string) (string, error) {
	for _, sub := range []string{"state", "state/aside", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return "", err
		}
	}
	for _, name := range []string{"config", "state/current", "state/gone", "state/aside/deep", "out/file"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			return "", err
		}
	}
	if err := unix.Setxattr(dir+"/config", "trusted.arb", []byte("x"), 0); err != nil {
		return "", err
	}
	for _, name := range []string{"config.new", "state/new", "state/newdir", "out/link", "config.old"} {
		os.RemoveAll(filepath.Join(dir, name))
	}
	if err := os.WriteFile(dir+"/config.new", []byte("y"), 0o644); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir+"/state/empty", 0o755); err != nil {
		return "", err
	}
	return "", os.MkdirAll(bpf+"/pins/deeper", 0o755)
}

// heldLinks keeps what "holdlinks" has opened.
var heldLinks []link.Link

// attacks are what an attacker can do.
var attacks = map[string]deed{
	"kill": func(pid, sig string) (string, error) { return "", unix.Kill(number10(pid), unix.Signal(number10(sig))) },
	"ptrace": func(pid, _ string) (string, error) {
		if err := unix.PtraceAttach(number10(pid)); err != nil {
			return "", err
		}
		var status unix.WaitStatus
		if _, err := unix.Wait4(number10(pid), &status, unix.WALL, nil); err != nil {
			return "", err
		}
		return "", unix.PtraceDetach(number10(pid))
	},
	"mem":    func(pid, _ string) (string, error) { return "", openClose("/proc/"+pid+"/mem", unix.O_RDWR) },
	"status": func(pid, _ string) (string, error) { return "", openClose("/proc/"+pid+"/status", unix.O_RDONLY) },
	"vmread": func(pid, _ string) (string, error) {
		buf := make([]byte, 1)
		local := []unix.Iovec{{Base: &buf[0], Len: 1}}
		_, err := unix.ProcessVMReadv(number10(pid), local, []unix.RemoteIovec{{Base: 4096, Len: 1}}, 0)
		if errors.Is(err, unix.EFAULT) {
			return "", nil // it was let in, and there is nothing there
		}
		return "", err
	},
	"getfd": func(pid, _ string) (string, error) {
		pidfd, err := unix.PidfdOpen(number10(pid), 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(pidfd)
		fd, err := unix.PidfdGetfd(pidfd, 0, 0)
		if err != nil {
			return "", err
		}
		return "", unix.Close(fd)
	},
	"affinity": func(pid, _ string) (string, error) {
		var set unix.CPUSet
		set.Set(0)
		return "", unix.SchedSetaffinity(number10(pid), &set)
	},
	"nice": func(pid, _ string) (string, error) { return "", unix.Setpriority(unix.PRIO_PROCESS, number10(pid), 1) },
	"ioprio": func(pid, _ string) (string, error) {
		_, _, errno := unix.Syscall(unix.SYS_IOPRIO_SET, 1, uintptr(number10(pid)), 2<<13|4)
		if errno != 0 {
			return "", errno
		}
		return "", nil
	},
	"prlimit": func(pid, _ string) (string, error) {
		return "", unix.Prlimit(number10(pid), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 4096, Max: 4096}, nil)
	},
	// A signal by way of SIGIO: of a pipe that the target owns.
	"sigio": func(pid, sig string) (string, error) {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return "", err
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		for _, c := range [][2]int{{unix.F_SETOWN, number10(pid)}, {unix.F_SETSIG, number10(sig)}, {unix.F_SETFL, unix.O_ASYNC}} {
			if _, err := unix.FcntlInt(uintptr(pipe[0]), c[0], c[1]); err != nil {
				return "", err
			}
		}
		_, err := unix.Write(pipe[1], []byte("x"))
		return "", err
	},
	"mapwrite": func(id, _ string) (string, error) { return "", openMapID(uint32(number10(id)), 0) },
	"mapread":  func(id, _ string) (string, error) { return "", openMapID(uint32(number10(id)), unix.BPF_F_RDONLY) },
	"prog": func(id, _ string) (string, error) {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(number10(id)))
		if err != nil {
			return "", err
		}
		return "", p.Close()
	},
	"holdlinks": func(string, string) (string, error) {
		var it link.Iterator
		for it.Next() {
			heldLinks = append(heldLinks, it.Take())
		}
		return fmt.Sprint(len(heldLinks) > 0), it.Err()
	},
	"read":  func(path, _ string) (string, error) { return "", openClose(path, unix.O_RDONLY) },
	"write": func(path, _ string) (string, error) { return "", openClose(path, unix.O_WRONLY) },
	"create": func(path, _ string) (string, error) {
		return "", openClose(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	},
	"truncate":    func(path, _ string) (string, error) { return "", unix.Truncate(path, 0) },
	"unlink":      func(path, _ string) (string, error) { return "", unix.Unlink(path) },
	"rmdir":       func(path, _ string) (string, error) { return "", unix.Rmdir(path) },
	"mkdir":       func(path, _ string) (string, error) { return "", unix.Mkdir(path, 0o755) },
	"mknod":       func(path, _ string) (string, error) { return "", unix.Mknod(path, unix.S_IFIFO|0o600, 0) },
	"symlink":     func(path, _ string) (string, error) { return "", unix.Symlink("x", path) },
	"link":        func(from, to string) (string, error) { return "", unix.Link(from, to) },
	"chmod":       func(path, _ string) (string, error) { return "", unix.Chmod(path, 0o600) },
	"chown":       func(path, _ string) (string, error) { return "", unix.Chown(path, 1, 1) },
	"setxattr":    func(path, _ string) (string, error) { return "", unix.Setxattr(path, "trusted.arb", []byte("x"), 0) },
	"removexattr": func(path, _ string) (string, error) { return "", unix.Removexattr(path, "trusted.arb") },
	"rename":      func(from, to string) (string, error) { return "", unix.Rename(from, to) },
	// There and back, so that the next round finds it.
	"move": func(from, to string) (string, error) {
		if err := unix.Rename(from, to); err != nil {
			return "", err
		}
		return "", unix.Rename(to, from)
	},
	"chattr": func(path, _ string) (string, error) {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return "", err
		}
		defer unix.Close(fd)
		err = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, 0)
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			return "", nil // it came as far as the file system, which knows no flags
		}
		return "", err
	},
	"over": func(path, _ string) (string, error) {
		if err := unix.Mount("none", path, "tmpfs", 0, ""); err != nil {
			return "", err
		}
		return "", unix.Unmount(path, 0)
	},
	"bind": func(from, to string) (string, error) { return "", unix.Mount(from, to, "", unix.MS_BIND, "") },
	// Lazily, and back: there are no files in it but directories.
	"umount": func(path, _ string) (string, error) { return "", unix.Unmount(path, unix.MNT_DETACH) },
	// The same in a mount namespace of its own, with the given propagation.
	"overapart": func(path, how string) (string, error) {
		result := make(chan error)
		go func() {
			runtime.LockOSThread() // for good: the thread ends
			result <- func() error {
				if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
					return err
				}
				if how == "private" {
					if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
						return err
					}
				}
				return unix.Mount("none", path, "tmpfs", 0, "")
			}()
		}()
		return "", <-result
	},
}

func number10(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

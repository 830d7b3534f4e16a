// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Init is process 1 of the guest: it sets the machine up, runs the test of the Job, tells the host, and powers off. It
// does not return. The program in the guest is vmrun, which calls it when its process id is 1.
func Init() {
	// Everything goes to the kernel log until the second port is open.
	port, err := setUpGuest()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmrun: init:", err)
		powerOff()
	}
	job, err := readJob()
	if err != nil {
		// Without the nonce no marker can be made; the host sees a guest that did not start.
		fmt.Fprintln(os.Stderr, "vmrun: init:", err)
		powerOff()
	}
	status, err := runJob(job, port)
	word, payload := markExit, strconv.Itoa(status)
	if err != nil {
		word, payload = markFail, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	_, _ = port.Write(marker(job.Nonce, word, payload))  // nobody is left to tell
	_ = unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // waits until it is out
	powerOff()
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	for { // a kernel without power management: the host's timeout ends it
		_ = unix.Pause()
	}
}

// mounts of the guest, in order. One that the kernel does not have is left out unless it is needed for anything at all.
var guestMounts = []struct {
	kind, dir, data string
	need            bool
}{
	{kind: "proc", dir: "/proc", need: true},
	{kind: "sysfs", dir: "/sys", need: true},
	{kind: "devtmpfs", dir: "/dev", need: true},
	{kind: "tmpfs", dir: "/tmp", data: "mode=1777", need: true},
	{kind: "tmpfs", dir: "/run", data: "mode=755", need: true},
	{kind: "tmpfs", dir: "/dev/shm", data: "mode=1777"},
	{kind: "devpts", dir: "/dev/pts", data: "ptmxmode=0666"},
	{kind: "securityfs", dir: "/sys/kernel/security"},
	{kind: "bpf", dir: "/sys/fs/bpf"},
	{kind: "cgroup2", dir: "/sys/fs/cgroup"},
	{kind: "tracefs", dir: "/sys/kernel/tracing"},
}

// setUpGuest mounts the filesystems, names the host, brings the loopback up, and opens the port of the test.
func setUpGuest() (*os.File, error) {
	for _, m := range guestMounts {
		err := os.MkdirAll(m.dir, 0o755)
		if err == nil || errors.Is(err, os.ErrPermission) { // sysfs has its mount points already
			err = unix.Mount(m.kind, m.dir, m.kind, 0, m.data)
		}
		if err != nil && m.need {
			return nil, fmt.Errorf("mounting %s on %s: %w", m.kind, m.dir, err)
		}
	}
	_ = unix.Sethostname([]byte("vmtest"))
	if err := loopbackUp(); err != nil {
		return nil, fmt.Errorf("bringing the loopback up: %w", err)
	}
	port, err := os.OpenFile("/dev/ttyS1", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, fmt.Errorf("opening the port of the test: %w", err)
	}
	t, err := unix.IoctlGetTermios(int(port.Fd()), unix.TCGETS)
	if err == nil {
		t.Iflag, t.Oflag, t.Lflag = 0, 0, 0 // raw: no newline becomes two characters, nothing is echoed
		err = unix.IoctlSetTermios(int(port.Fd()), unix.TCSETS, t)
	}
	if err != nil {
		return nil, fmt.Errorf("setting the port of the test to raw: %w", err)
	}
	return port, nil
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

func readJob() (*Job, error) {
	b, err := os.ReadFile(jobPath)
	if err != nil {
		return nil, err
	}
	var job Job
	if err := json.Unmarshal(b, &job); err != nil {
		return nil, fmt.Errorf("reading the job: %w", err)
	}
	return &job, nil
}

// runJob loads the modules, starts the test and reaps what it leaves behind. The status is that of a shell: 128 and the
// signal for a test that was killed.
func runJob(job *Job, port *os.File) (int, error) {
	for _, name := range job.Modules {
		if err := loadModule(name); err != nil {
			return 0, err
		}
	}
	if err := os.Chdir(job.Dir); err != nil {
		return 0, err
	}
	if err := makeOutputDirs(job.Args); err != nil {
		return 0, err
	}
	cmd := exec.Command(job.Binary, job.Args...)
	cmd.Stdout, cmd.Stderr = port, port
	cmd.Env = append([]string{
		"PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/tmp", "TMPDIR=/tmp", "USER=root", "LANG=C.UTF-8",
		EnvVM + "=" + job.Series,
	}, job.Env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}

	// The test's end is learnt from wait4 below, which also reaps orphans: cmd.Wait would fight it for the status.
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	if _, err := port.Write(startMarker(job.Nonce, facts())); err != nil {
		return 0, fmt.Errorf("writing the start marker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting the test: %w", err)
	}
	if job.Timeout > 0 {
		time.AfterFunc(job.Timeout, func() {
			fmt.Fprintf(port, "\nvmrun: the test runs for %v; asking it for its goroutines with SIGQUIT\n", job.Timeout)
			_ = unix.Kill(cmd.Process.Pid, unix.SIGQUIT)
		})
	}
	for range children {
		for {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
			if err == unix.EINTR {
				continue
			}
			if err != nil || pid == 0 {
				break
			}
			if pid != cmd.Process.Pid {
				continue
			}
			if ws.Signaled() {
				fmt.Fprintf(port, "\nvmrun: the test was killed by %s\n", unix.SignalName(ws.Signal()))
				return 128 + int(ws.Signal()), nil
			}
			return ws.ExitStatus(), nil
		}
	}
	panic("BUG: the channel of SIGCHLD was closed")
}

func loadModule(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && err != unix.EEXIST {
		return fmt.Errorf("loading module %s: %w; the kernel log tells why", filepath.Base(name), err)
	}
	return nil
}

// makeOutputDirs makes the folders that the test is told to write to, such as that of -test.testlogfile: `go test` made
// them on the host. What is written there stays in the guest.
func makeOutputDirs(args []string) error {
	for _, arg := range args {
		name, value, ok := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !ok || !strings.HasPrefix(name, "test.") || !filepath.IsAbs(value) {
			continue
		}
		dir := filepath.Dir(value)
		if strings.HasSuffix(name, "dir") {
			dir = value
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// facts collects what the host shows of the guest. What cannot be read stays zero.
func facts() Facts {
	f := Facts{CPUs: runtime.NumCPU()}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		f.Release = unix.ByteSliceToString(u.Release[:])
		f.Version = unix.ByteSliceToString(u.Version[:])
	}
	if b, err := os.ReadFile("/sys/kernel/security/lsm"); err == nil {
		f.LSM = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/filesystems"); err == nil {
		f.FUSE = strings.Contains(string(b), "\tfuse\n")
	}
	_, err := os.Stat("/sys/kernel/btf/vmlinux")
	f.BTF = err == nil
	f.Preempt = preemptModel(f.Version)
	return f
}

// preemptModel is the kernel log's "Dynamic Preempt: voluntary", or what the version string says.
func preemptModel(version string) string {
	log := make([]byte, 512<<10)
	if n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, log); err == nil {
		if _, rest, ok := strings.Cut(string(log[:n]), "Dynamic Preempt: "); ok {
			word, _, _ := strings.Cut(rest, "\n")
			return strings.TrimSpace(word)
		}
	}
	for _, word := range strings.Fields(version) {
		if strings.HasPrefix(word, "PREEMPT") {
			return word
		}
	}
	return ""
}

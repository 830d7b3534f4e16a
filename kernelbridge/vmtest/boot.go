// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Machine is one virtual machine to boot.
type Machine struct {
	Kernel    string // image
	Initrd    string
	Nonce     string // of the Job in the initrd
	CPUs      int
	MemoryMiB int
	CPUModel  string // qemu's -cpu
	Append    string // added to the kernel's command line
	QEMU      string // extra arguments, split at spaces
	// Count makes the guest's time the instructions that its CPUs execute, a nanosecond each; one CPU runs at a time.
	Count bool

	BootTimeout time.Duration // until the start marker
	Timeout     time.Duration // from the start marker to the exit marker

	Out       io.Writer // what the test prints, and nothing else
	KernelLog string    // path of the file that gets the first serial port
}

// Result is what a machine that ran its test to the end told.
type Result struct {
	Status int           // of the test
	Facts  Facts         // about the guest
	Boot   time.Duration // from the start of qemu to the start of the test
	Test   time.Duration // from there to its end
}

// Errors of Boot. A caller boots again after ErrNotStarted, since the test had no part in it.
var (
	// ErrNotStarted says that the guest ended or hung before the test was started.
	ErrNotStarted = errors.New("the guest died before the test started")
	// ErrDied says that the guest ended while the test ran: the kernel panicked, or something powered it off.
	ErrDied = errors.New("the guest died while the test ran")
	// ErrTimeout says that the test did not end in its time.
	ErrTimeout = errors.New("the test did not end in its time")
	// ErrGuest says that the guest's init could not start the test, for example because a module did not load.
	ErrGuest = errors.New("the guest could not start the test")
	// ErrNoQEMU says that qemu is not installed.
	ErrNoQEMU = errors.New("qemu-system-x86_64 is not installed; on Debian: apt-get install --no-install-recommends qemu-system-x86")
)

const qemuProgram = "qemu-system-x86_64"

// commandLine is what every guest gets. loglevel=5 keeps the boot quiet and still shows what a dying kernel says;
// panic=-1 with qemu's -no-reboot turns a panic into the end of qemu; the console is ttyS0, the test has ttyS1.
const commandLine = "console=ttyS0 earlyprintk=serial,ttyS0,115200 loglevel=5 panic=-1 oops=panic rdinit=/init" +
	" random.trust_cpu=on no_timer_check"

// args is qemu's command line.
func (m *Machine) args() []string {
	time := []string{"-accel", "tcg,thread=multi"}
	if m.Count { // sleep=off: while all CPUs wait for a timer it is the time of that at once
		time = []string{"-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"}
	}
	a := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "pc",
		"-cpu", m.CPUModel,
		"-smp", strconv.Itoa(m.CPUs),
		"-m", strconv.Itoa(m.MemoryMiB) + "M",
		"-kernel", m.Kernel, "-initrd", m.Initrd,
		"-append", strings.TrimSpace(commandLine + " " + m.Append),
		"-serial", "file:" + m.KernelLog,
		"-serial", "stdio",
	}
	return append(append(a, time...), strings.Fields(m.QEMU)...)
}

// Boot runs the machine until the test in it has ended, one of its bounds is reached, or ctx ends. A Result is whole only
// with a nil error; its Facts and Boot are there as soon as the test was started.
//
// The caller's goroutine must be locked to its thread for as long as the process lives, or qemu would be killed with the
// thread: qemu is tied to it so that no guest outlives vmrun, however that ends.
func Boot(ctx context.Context, m *Machine) (Result, error) {
	var (
		res      Result
		started  bool
		exited   bool
		failure  error
		begun    = time.Now()
		testFrom time.Time
	)
	program, err := exec.LookPath(qemuProgram)
	if err != nil {
		return res, ErrNoQEMU
	}
	// One clock at a time: the boot's until the start marker, then the test's.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	clock := time.AfterFunc(m.BootTimeout, func() {
		stop(fmt.Errorf("%w: nothing heard for %v", ErrNotStarted, m.BootTimeout))
	})
	defer func() { clock.Stop() }()

	cmd := exec.CommandContext(ctx, program, m.args()...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	// The marks come on the goroutine that copies stdout; Wait returns after it has ended.
	split := newSplitter(m.Nonce, m.Out, func(word, payload string) {
		switch word {
		case markStart:
			if err := json.Unmarshal([]byte(payload), &res.Facts); err != nil {
				failure = fmt.Errorf("%w: its start marker is not understood: %w", ErrGuest, err)
				stop(failure)
				return
			}
			started, testFrom = true, time.Now()
			res.Boot = testFrom.Sub(begun)
			clock.Stop()
			clock = time.AfterFunc(m.Timeout, func() { stop(fmt.Errorf("%w: %v (raise it with -timeout)", ErrTimeout, m.Timeout)) })
		case markExit:
			res.Status, failure = exitStatus(payload)
			exited = true
			res.Test = time.Since(testFrom)
			stop(nil) // nothing is left to do in there; powering off would only take time
		case markFail:
			failure = fmt.Errorf("%w: %s", ErrGuest, payload)
			stop(failure)
		}
	})
	cmd.Stdout = split
	err = cmd.Run()
	if ferr := split.Flush(); ferr != nil && failure == nil {
		failure = ferr
	}
	switch cause := context.Cause(ctx); {
	case failure != nil:
		return res, failure
	case exited:
		return res, nil
	case cause != nil:
		return res, cause
	case started:
		return res, ErrDied
	}
	if text := strings.TrimSpace(complaint.String()); text != "" {
		return res, fmt.Errorf("%w: qemu says: %s", ErrNotStarted, text)
	}
	if err != nil {
		return res, fmt.Errorf("%w: qemu: %w", ErrNotStarted, err)
	}
	return res, ErrNotStarted // a panic, with -no-reboot
}

func exitStatus(payload string) (int, error) {
	n, err := strconv.Atoi(payload)
	if err != nil || n < 0 || n > 255 {
		return 0, fmt.Errorf("%w: its exit marker says %q", ErrGuest, payload)
	}
	return n, nil
}

// kernelLogTail returns the last lines of a kernel log, at most n and 16 KiB.
func kernelLogTail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	b = bytes.ReplaceAll(b[max(0, len(b)-16<<10):], []byte("\r"), nil)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return "(the kernel said nothing)"
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// trapped matches the code around a fault, up to the byte before the one that would have come next.
var trapped = regexp.MustCompile(`Code:(?: [0-9a-f]{2})* ([0-9a-f]{2}) <[0-9a-f]{2}>`)

// staleBreakpoint reports whether the kernel died of a breakpoint that is not there: it puts one where it
// changes code, here for a hook's program, and takes it away when every CPU has been told. qemu before
// 8.1 can go on with a translation from before: it translates a page while another CPU writes to it.
func staleBreakpoint(path string) bool {
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	_, oops, found := bytes.Cut(b, []byte("int3: 0000 [#1]"))
	code := trapped.FindSubmatch(oops)
	return found && code != nil && string(code[1]) != "cc"
}

// kernelComplaints returns the lines of a kernel log in which the kernel reports a fault of its own, at most 10.
func kernelComplaints(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var found []string
	for line := range strings.Lines(string(b)) {
		for _, word := range []string{"BUG:", "WARNING:", "Oops:", "INFO: task ", "general protection fault", "Kernel panic", "KASAN"} {
			if strings.Contains(line, word) && len(found) < 10 {
				found = append(found, strings.TrimSpace(line))
				break
			}
		}
	}
	return found
}

// moduleRoot is the nearest folder at or above dir with a go.mod, or "" without one.
func moduleRoot(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			return ""
		}
		dir = up
	}
}

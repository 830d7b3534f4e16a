// SPDX-License-Identifier: Apache-2.0

// Package guard kills a daemon that has stopped answering, so that the kernel
// lets the tasks go that it holds.
//
// A fanotify permission event has no time limit in the kernel: a daemon that is
// stopped (SIGSTOP, a debugger), hangs in the kernel, or has lost its scheduler
// holds its tasks for ever. It cannot help itself, so a second process watches it:
// the daemon counts up a word in shared memory, and when the word stands still for
// longer than the limit the guard sends SIGKILL. The kernel then closes the fanotify
// group and allows whatever was held.
//
// A task that sleeps at the gate of the BPF LSM backend is in the same place: it goes on
// by its failure verdict when the kernel aborts the FUSE connection of the dead daemon.
//
// The guard is the daemon's own executable, started again: Main, called first
// thing in main, takes over in that process. It holds no descriptor of the daemon
// but a pidfd and the memory, opens nothing after its start, keeps its memory
// locked (when RLIMIT_MEMLOCK lets it), asks the OOM killer to spare it, and ends
// when the daemon does. It counts looks, not time: a machine or a control group
// that was frozen as a whole kills nobody when it thaws. Freezing the control group
// that holds both therefore holds tasks until it is thawed.
package guard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// DefaultLimit leaves room for the worst pause that a healthy daemon has had
	// (swapping back in), and is short enough that a person waits it out.
	DefaultLimit = 10 * time.Second
	// MinLimit is below what any healthy daemon can be expected to keep.
	MinLimit = 100 * time.Millisecond

	argZero  = "arbiter-guard"
	limitEnv = "ARBITER_GUARD_LIMIT_NS"
	// startWait bounds the start of the guard process.
	startWait = 10 * time.Second
	// looks is how often the guard looks within the limit.
	looks = 8
)

// Descriptors of the guard process, in the order of ExtraFiles.
const (
	pidfdFD = 3 + iota
	wordFD
	readyFD
)

// Options configures a Guard. The zero value is good.
type Options struct {
	// Limit is how long the heartbeat may stand still, 0 means DefaultLimit. It
	// must be longer than the time between two beats.
	Limit time.Duration
}

// Guard is the daemon's side: its heart. All methods may be called from anywhere
// at any time.
type Guard struct {
	cmd    *exec.Cmd
	memory []byte
	word   *atomic.Uint64
	done   chan struct{}

	mu     sync.RWMutex // Beat against Close, which unmaps the word
	closed bool
}

// Start starts a guard for this process and returns when it watches. It kills
// nobody before the first Beat.
func Start(o Options) (*Guard, error) {
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.Limit < MinLimit {
		return nil, fmt.Errorf("starting the guard: a limit of %v: give %v or more", o.Limit, MinLimit)
	}
	g, err := start(o)
	if err != nil {
		return nil, fmt.Errorf("starting the guard: %w", err)
	}
	return g, nil
}

func start(o Options) (_ *Guard, err error) {
	files := make([]*os.File, 3)
	defer func() {
		for _, f := range files {
			f.Close() // nil files say so and do nothing
		}
	}()
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("opening a pidfd: %w: the guard needs Linux 5.3", err)
	}
	files[0] = os.NewFile(uintptr(pidfd), "pidfd")
	memfd, err := unix.MemfdCreate("arbiter-heartbeat", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("creating the heartbeat's memory: %w", err)
	}
	files[1] = os.NewFile(uintptr(memfd), "heartbeat")
	if err := files[1].Truncate(wordBytes); err != nil {
		return nil, fmt.Errorf("sizing the heartbeat's memory: %w", err)
	}
	// Neither side can make the other die of SIGBUS.
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(memfd), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("sealing the heartbeat's memory: %w", err)
	}
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer ready.Close()
	files[2] = readyEnd

	g := &Guard{done: make(chan struct{})}
	if g.word, g.memory, err = mapWord(memfd); err != nil {
		return nil, err
	}
	g.cmd = &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{argZero}, Dir: "/", Stderr: os.Stderr, ExtraFiles: files,
		// GOMAXPROCS also keeps the runtime from reading control group files.
		Env: []string{limitEnv + "=" + strconv.FormatInt(int64(o.Limit), 10), "GOMAXPROCS=1"},
		// A session of its own: ^Z and job control do not stop both.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := g.cmd.Start(); err != nil {
		unix.Munmap(g.memory)
		return nil, fmt.Errorf("executing /proc/self/exe: %w", err)
	}
	go func() {
		g.cmd.Wait()
		close(g.done)
	}()
	readyEnd.Close()
	if err := awaitReady(ready); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

func awaitReady(ready *os.File) error {
	if err := ready.SetReadDeadline(time.Now().Add(startWait)); err != nil {
		return fmt.Errorf("waiting for the guard: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(ready, 1024))
	switch {
	case err != nil:
		return fmt.Errorf("waiting for the guard: %w", err)
	case len(text) == 0:
		return errors.New("the guard ended at once: does main call guard.Main first?")
	case string(text) != readyText:
		return fmt.Errorf("the guard says: %s", text)
	}
	return nil
}

// Beat says that the daemon is alive. The first one arms the guard.
func (g *Guard) Beat() {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if g.closed {
		return
	}
	if g.word.Add(1) == 0 {
		g.word.Add(1) // 0 means disarmed
	}
}

// Disarm tells the guard to kill nobody until the next Beat.
func (g *Guard) Disarm() {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if !g.closed {
		g.word.Store(0)
	}
}

// PID returns the process id of the guard, for the list of exempt processes.
func (g *Guard) PID() int { return g.cmd.Process.Pid }

// Done is closed when the guard process has ended. If that was not by Close, the
// daemon is unguarded: start another one.
func (g *Guard) Done() <-chan struct{} { return g.done }

// Close ends the guard and waits for it. It may be called more than once.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	// SIGKILL needs no cooperation; ErrProcessDone means that it was faster.
	if err := g.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending the guard: %w", err)
	}
	<-g.done
	if err := unix.Munmap(g.memory); err != nil {
		return fmt.Errorf("unmapping the heartbeat: %w", err)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// startTimeout bounds Open, which takes a millisecond.
const startTimeout = 10 * time.Second

// Options configures Open.
type Options struct {
	Workers int          // how many, 1 to abi.MaxWorkers
	Slots   Slots        // the queue
	Logger  *slog.Logger // nil discards

	device string // for tests, instead of /dev/fuse
}

// Identity says which file the gate is, so that the kernel side can tell it from any
// other.
type Identity struct {
	PID int // of the helper, whose exe the file is
	// StartTicks is the helper's start time, task_struct.start_boottime, in units of
	// 10 ms, cut off. The exact one is not to be had in user space. A time namespace
	// with a boot time offset shifts it.
	StartTicks uint64
	Dev, Ino   uint64 // super_block.s_dev and inode.i_ino
}

// Gate is an open gate. Once it has gone (Done) it stays so: open another one.
type Gate struct {
	slots   Slots
	logger  *slog.Logger
	image   []byte
	devices []device // the heart's, then one per worker; fixed after Open
	grave   int      // the reading end of a pipe at its end; what Abort puts in the devices' place
	helper  *helper
	id      Identity

	sleepers sleepers
	now      atomic.Int64 // coarse CLOCK_MONOTONIC, by Tick
	stats    stats
	others   atomic.Uint64 // requests that were no GETXATTR
	_        [64]byte
	served   atomic.Uint64 // read by polling workers
	_        [56]byte

	lastBegun, lastServed uint64 // of Tick

	lost atomic.Bool // the connection has gone; done is closed then
	done chan struct{}

	parkers []atomic.Pointer[Parker] // per worker, set once

	mu      sync.Mutex // serialises Parker, Abort, Close
	aborted bool
	closed  bool
}

// Open makes a gate. Nobody serves it until a worker parks or Tick is called. The
// error is an UnsupportedError where the kernel or its configuration cannot do it.
// The tasks of another user namespace that is not a child of the caller's are not
// let in, so call it in the host's.
func Open(o Options) (_ *Gate, err error) {
	var errs []error
	if o.Workers < 1 || o.Workers > abi.MaxWorkers {
		errs = append(errs, fmt.Errorf("%d workers, want 1 to %d", o.Workers, abi.MaxWorkers))
	}
	if o.Slots == nil {
		errs = append(errs, errors.New("no slots"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("opening the gate: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.device == "" {
		o.device = devicePath
	}
	g := &Gate{slots: o.Slots, logger: o.Logger, grave: -1, done: make(chan struct{}), parkers: make([]atomic.Pointer[Parker], o.Workers)}
	g.now.Store(monotonic())
	g.served.Store(o.Slots.Sleeps()) // those of a gate before
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("opening the gate: %w", err), g.Close())
		}
	}()
	if g.image, err = helperImage(); err != nil {
		return nil, err
	}
	if err := g.openDevices(o.device, 1+o.Workers); err != nil {
		return nil, err
	}
	if err := g.start(); err != nil {
		return nil, err
	}
	go func() {
		<-g.helper.ended
		g.lose(errors.New("the helper has ended"))
	}()
	return g, nil
}

// openDevices opens the channels. They are one connection when start is through.
func (g *Gate) openDevices(path string, n int) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	g.grave = pipe[0]
	unix.Close(pipe[1])
	for i := range n {
		fd, err := openDevice(path)
		if err != nil {
			return err
		}
		g.devices = append(g.devices, device{fd: fd, index: i, buf: make([]byte, readBufferBytes), out: make([]byte, outHeaderBytes+readBufferBytes)})
	}
	return nil
}

// start mounts, serves the mount until the helper runs, and lets go of the mount.
func (g *Gate) start() (err error) {
	mount, err := openMount(g.heart().fd)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(startTimeout)
	// Whatever waits for an answer that does not come is let go by this.
	timer := time.AfterFunc(startTimeout, g.Abort)
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		unix.Close(mount)
		return fmt.Errorf("creating an eventfd: %w", err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { g.serveStart(stop) })
	defer func() {
		// The mount last: only the helper uses the file from here on.
		unix.Close(mount)
		unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		serving.Wait()
		unix.Close(stop)
		if !timer.Stop() && err == nil {
			err = errStartTimeout
		}
	}()
	var st unix.Stat_t
	if err := unix.Fstat(mount, &st); err != nil {
		return fmt.Errorf("talking to FUSE: %w", err)
	}
	for i := range g.devices[1:] {
		if err := cloneDevice(g.devices[1+i].fd, g.heart().fd); err != nil {
			return fmt.Errorf("opening a channel of the connection: %w", err)
		}
	}
	if g.helper, err = startHelper(mount, len(g.image), deadline, g.others.Load); err != nil {
		return err
	}
	g.id = Identity{PID: g.helper.process.Pid, Dev: deviceOf(&st), Ino: st.Ino}
	if g.id.StartTicks, err = StartTicks(g.id.PID); err != nil {
		return fmt.Errorf("identifying the helper: %w", err)
	}
	return nil
}

// serveStart serves the heart's channel until stop is readable.
func (g *Gate) serveStart(stop int) {
	fds := []unix.PollFd{{Fd: int32(g.heart().fd), Events: unix.POLLIN}, {Fd: int32(stop), Events: unix.POLLIN}}
	for {
		_, err := unix.Ppoll(fds, nil, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if err != nil {
			continue
		}
		if fds[0].Revents != 0 {
			g.heart().serve(g, maxServe)
			if g.lost.Load() {
				fds[0].Fd = -1 // readable for ever
			}
		}
		if fds[1].Revents != 0 {
			return
		}
	}
}

// heart returns the channel that Tick serves.
func (g *Gate) heart() *device { return &g.devices[0] }

// Identity returns which file the gate is.
func (g *Gate) Identity() Identity { return g.id }

// Done is closed when the helper has ended or the connection has gone: no task can
// go to sleep any more. Abort the gate then, so that those who sleep wake up.
func (g *Gate) Done() <-chan struct{} { return g.done }

// lose says that the gate has gone, nil: because we wanted it.
func (g *Gate) lose(why error) {
	if g.lost.CompareAndSwap(false, true) {
		if why != nil {
			g.logger.Warn("the sleep gate has gone", slog.Any("error", why))
		}
		close(g.done)
	}
}

// Abort ends every sleep at once with ECONNABORTED, and every later one with
// ENOTCONN. It may be called from anywhere at any time, and more than once; workers
// may go on to use the gate, which does nothing any more but park them.
func (g *Gate) Abort() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.abort()
}

// abort is Abort under the lock.
func (g *Gate) abort() {
	if g.aborted {
		return
	}
	g.aborted = true
	if err := g.replaceDevices(); err != nil {
		g.logger.Error("ending the FUSE connection", slog.Any("error", err))
	}
	g.lose(nil)
	g.wakeParkers()
}

// wakeParkers ends the current or the next wait of every worker.
func (g *Gate) wakeParkers() {
	for i := range g.parkers {
		if p := g.parkers[i].Load(); p != nil {
			p.Wake()
		}
	}
}

// replaceDevices closes all channels, upon which the kernel ends the connection. The
// numbers stay taken: somebody may be about to read or write there.
func (g *Gate) replaceDevices() error {
	var errs []error
	for i := range g.devices {
		errs = append(errs, unix.Dup3(g.grave, g.devices[i].fd, unix.O_CLOEXEC))
	}
	return errors.Join(errs...)
}

// Close aborts, ends the helper, and releases everything. No other method but Wake
// of a parker may run or be called from then on. It may be called more than once.
func (g *Gate) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.abort()
	g.closed = true
	var errs []error
	if g.helper != nil {
		errs = append(errs, g.helper.stop())
	}
	for i := range g.parkers {
		if p := g.parkers[i].Load(); p != nil {
			errs = append(errs, p.close())
		}
	}
	for i := range g.devices {
		errs = append(errs, closeAll(g.devices[i].fd))
	}
	errs = append(errs, closeAll(g.grave))
	return errors.Join(errs...)
}

// closeAll closes descriptors, and skips those below 0.
func closeAll(fds ...int) error {
	var errs []error
	for _, fd := range fds {
		if fd < 0 {
			continue
		}
		if err := unix.Close(fd); err != nil {
			errs = append(errs, os.NewSyscallError("close", err))
		}
	}
	return errors.Join(errs...)
}

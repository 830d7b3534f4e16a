// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Backend is an open fanotify group with its marks. Its methods may be called
// from anywhere at any time.
type Backend struct {
	opts     Options
	features features
	eventLen int // bytes of one event
	clock    clock

	group     int
	procDir   int // O_PATH of /proc
	fdDir     int // O_PATH of /proc/self/fd
	cgroupDir int // O_PATH of the cgroup v2 hierarchy, -1 without one
	stop      int // eventfd: the goroutines return
	mountinfo *os.File

	exempt   []exemptProcess
	settings atomic.Pointer[settings]
	sources  []*Source
	twins    twinTable
	counters counters
	served   atomic.Bool // a worker has called Next

	failures   chan *abi.Failure // to OnFailure
	halt       chan struct{}     // no more failures will come
	delivering sync.WaitGroup

	running sync.WaitGroup
	closing atomic.Bool
	left    chan struct{} // a source was left while closing
	ended   chan struct{} // Close is done
	endErr  error

	mu      sync.Mutex // guards what follows; held while trees are scanned
	marks   *marks
	points  map[string]bool
	refused []string
	plain   []string
	mounted []string
}

// Open opens a fanotify group and marks the trees. From then on tasks are held;
// until a worker first calls Next they get the failure verdict at once, reason
// no_worker. It returns an *UnsupportedError where permission events cannot be
// used.
func Open(o Options) (*Backend, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("opening the fanotify backend: %w", err)
	}
	set, err := newSettings(o.Trees, o.Want, o.OnFail)
	if err != nil {
		return nil, fmt.Errorf("opening the fanotify backend: %w", err)
	}
	b := &Backend{opts: o, clock: newClock(), group: -1, procDir: -1, fdDir: -1, cgroupDir: -1, stop: -1,
		failures: make(chan *abi.Failure, failuresKept), halt: make(chan struct{}), left: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := b.open(set); err != nil {
		b.Close()
		return nil, fmt.Errorf("opening the fanotify backend: %w", err)
	}
	return b, nil
}

func (b *Backend) open(set *settings) error {
	b.settings.Store(set)
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("creating an inotify instance: %w", err)
	}
	b.marks = newMarks(-1, inotify)
	if b.group, b.features, err = newGroup(); err != nil {
		return err
	}
	b.marks.group = b.group
	b.eventLen = unix.FAN_EVENT_METADATA_LEN
	if b.features.eventPidfd {
		b.eventLen += pidfdRecordBytes
	}
	if b.procDir, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening /proc: %w", err)
	}
	if b.fdDir, err = unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("opening /proc/self/fd: %w", err)
	}
	if b.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("creating an eventfd: %w", err)
	}
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the mount table: %w", err)
	}
	b.mountinfo = os.NewFile(uintptr(table), "/proc/self/mountinfo")
	mounts, err := readMounts(b.mountinfo)
	if err != nil {
		return err
	}
	b.cgroupDir = openCgroups(mounts)
	if err := b.openExempt(); err != nil {
		return err
	}
	for range b.opts.Workers {
		s, err := newSource(b)
		if err != nil {
			return fmt.Errorf("creating a source: %w", err)
		}
		b.sources = append(b.sources, s)
	}
	if b.opts.OnFailure != nil {
		b.delivering.Go(b.deliver)
	}
	b.opts.Beat() // arms the guard before anything can be held
	b.running.Add(2)
	go (&watchdog{b: b, own: newReader(b)}).run() // before the first mark: it answers our own scan
	defer func() { go b.watch(inotify) }()

	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.marks.mark(set.trees, mounts)
	if err != nil {
		return err
	}
	b.adopt(c)
	return nil
}

func (b *Backend) openExempt() error {
	b.exempt = []exemptProcess{{tgid: os.Getpid(), pidfd: -1}}
	for _, pid := range b.opts.Exempt {
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ENOSYS) {
			fd, err = -1, nil // before 5.3: the id alone must do
		}
		if err != nil {
			return fmt.Errorf("exempting process %d: %w: name a running process", pid, err)
		}
		b.exempt = append(b.exempt, exemptProcess{tgid: pid, pidfd: fd})
	}
	return nil
}

// adopt makes the outcome of a scan the current one. The lock is held.
func (b *Backend) adopt(c *change) {
	c.prune()
	b.points, b.refused, b.plain = c.points, c.refused, c.plain
	b.mounted = b.mounted[:0]
	for p := range c.mounts {
		b.mounted = append(b.mounted, p)
	}
	slices.Sort(b.mounted)
}

// Sources returns the sources, one for each worker.
func (b *Backend) Sources() []*Source { return slices.Clone(b.sources) }

// Configure replaces trees, wanted facts and failure verdicts, all or nothing: on
// an error everything stays as it was. When it returns, events of the new trees
// are asked and those of trees that were left out are not.
func (b *Backend) Configure(trees []string, want abi.Fields, onFail map[abi.Event]abi.Verdict) error {
	set, err := newSettings(trees, want, onFail)
	if err != nil {
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return fmt.Errorf("configuring the fanotify backend: %w", ErrClosed)
	}
	mounts, err := readMounts(b.mountinfo)
	if err != nil {
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	c, err := b.marks.mark(set.trees, mounts)
	if err != nil {
		c.undo()
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	b.settings.Store(set)
	b.adopt(c)
	return nil
}

// Warnings says, one sentence each, what cannot be relied on with the present
// trees and wanted facts.
func (b *Backend) Warnings() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	ws := Unsupported(b.settings.Load().want)
	if len(b.mounted) > 0 {
		ws = append(ws, "mounts: only opens through "+strings.Join(quoted(b.mounted), ", ")+" in this mount namespace are asked; "+
			"a process with a mount namespace of its own goes through copies that carry no mark")
		if apart("/proc/self/ns/mnt", "/proc/1/ns/mnt") {
			ws = append(ws, "mounts: the daemon itself has a mount namespace of its own, so programs of the host go through mounts "+
				"that carry no mark; start it without one (systemd: no ProtectSystem=, PrivateTmp= and the like)")
		}
	}
	if len(b.plain) > 0 {
		ws = append(ws, "directories: "+strings.Join(quoted(b.plain), ", ")+" is no mount point, so opens in a new sub-directory are not asked "+
			"until it has been marked, some 100 µs after it appeared; mount --bind DIR DIR closes that window")
	}
	if len(b.refused) > 0 {
		ws = append(ws, "the kernel has no permission events on "+strings.Join(quoted(b.refused), ", ")+": opens there are not asked")
	}
	return ws
}

// apart reports whether two links to namespaces are surely of two namespaces.
func apart(a, b string) bool {
	one, err := os.Readlink(a)
	other, err2 := os.Readlink(b)
	return err == nil && err2 == nil && one != other
}

func quoted(paths []string) []string {
	q := make([]string, len(paths))
	for i, p := range paths {
		q[i] = fmt.Sprintf("%q", p)
	}
	return q
}

// closeWait bounds how long Close waits for a worker that is inside a source.
const closeWait = 2 * time.Second

// Close ends the backend: the kernel lets all held tasks go on. Stop the workers
// first; a worker that still uses its source finds it empty. Close may be called
// more than once and returns the same each time.
func (b *Backend) Close() error {
	if !b.closing.CompareAndSwap(false, true) {
		<-b.ended
		return b.endErr
	}
	defer close(b.ended)
	defer b.delivering.Wait()
	defer close(b.halt)
	if b.stop >= 0 {
		one := [8]byte{1}
		unix.Write(b.stop, one[:])
	}
	b.running.Wait()
	out := b.vacate()
	if !out {
		b.endErr = fmt.Errorf("closing the fanotify backend: a worker did not leave its source within %v; "+
			"held tasks go on when the process ends", closeWait)
		// Closing the group still lets go everything, unless a read is stuck in it.
		unix.Close(b.group)
		return b.endErr
	}
	for _, s := range b.sources {
		s.close()
	}
	b.closeDescriptors()
	return nil
}

// vacate wakes all workers and waits until they are out of their sources. False
// when one stays.
func (b *Backend) vacate() bool {
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	for _, s := range b.sources {
		s.Wake()
		for s.inside.Load() {
			select {
			case <-b.left:
			case <-timer.C:
				return false
			}
		}
	}
	return true
}

func (b *Backend) closeDescriptors() {
	fds := []int{b.group, b.procDir, b.fdDir, b.cgroupDir, b.stop}
	if b.marks != nil {
		fds = append(fds, b.marks.inotify)
	}
	for _, e := range b.exempt {
		fds = append(fds, e.pidfd)
	}
	for _, s := range b.sources {
		h := &s.held
		if h.state.Load() != h.word(idle) {
			h.state.Store(h.word(closed))
			fds = append(fds, int(h.fd), int(h.pidfd))
		}
	}
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if b.mountinfo != nil {
		b.mountinfo.Close()
	}
}

// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
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
	procDir   int             // O_PATH of /proc
	fdDir     int             // O_PATH of /proc/self/fd
	cgroupDir int             // O_PATH of the cgroup v2 hierarchy, -1 without one
	hostLinks *namespaceLinks // nil: they are not known
	audit     bool            // the kernel has login uids and sessions
	stop      int             // eventfd: the watcher returns
	end       int             // eventfd: the watchdog and its reader return
	mountinfo *os.File

	exempt   atomic.Pointer[[]exemptProcess]
	selfMu   sync.Mutex // of ExecSelf
	settings atomic.Pointer[settings]
	sources  []*Source
	twins    twinTable
	counters counters
	served   atomic.Bool  // a worker has called Next
	serving  atomic.Int64 // readers that answer because none has

	failures   chan *abi.Failure // to OnFailure
	halt       chan struct{}     // no more failures will come
	delivering sync.WaitGroup

	running  sync.WaitGroup // the watchdog
	watching sync.WaitGroup // the watcher
	closing  atomic.Bool
	gone     atomic.Bool   // the group is closed though somebody may be reading it
	left     chan struct{} // a source was left, or a reader ended, while closing
	ended    chan struct{} // Close is done
	endErr   error

	readers atomic.Int64 // goroutines that read in the watchdog's place

	mu      sync.Mutex // guards what follows; held while trees are scanned
	marks   *marks
	points  map[string]bool
	gaps    []gap
	plain   map[string]int
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
	b := &Backend{opts: o, clock: newClock(), group: -1, procDir: -1, fdDir: -1, cgroupDir: -1, stop: -1, end: -1,
		failures: make(chan *abi.Failure, failuresKept), halt: make(chan struct{}), left: make(chan struct{}, 1), ended: make(chan struct{})}
	if err := b.open(); err != nil {
		b.Close()
		return nil, fmt.Errorf("opening the fanotify backend: %w", err)
	}
	return b, nil
}

func (b *Backend) open() error {
	table, err := unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the mount table: %w", err)
	}
	b.mountinfo = os.NewFile(uintptr(table), "/proc/self/mountinfo")
	mounts, err := readMounts(b.mountinfo)
	if err != nil {
		return err
	}
	set, err := newSettings(b.opts.Trees, nil, b.opts.Want, b.opts.OnFail, newTable(mounts), b.opts.AskRemote)
	if err != nil {
		return err
	}
	b.settings.Store(set)
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("creating an inotify instance: %w", err)
	}
	b.marks = newMarks(-1, inotify, b.opts.AskRemote, &b.closing)
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
	for _, fd := range []*int{&b.stop, &b.end} {
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			return fmt.Errorf("creating an eventfd: %w", err)
		}
	}
	b.cgroupDir = openCgroups(mounts)
	_, noAudit := os.Lstat("/proc/self/loginuid")
	b.audit = noAudit == nil
	if b.hostLinks, err = hostLinks(); err != nil {
		return err
	}
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
	b.running.Add(1)
	b.watching.Add(1)
	go newWatchdog(b).run() // before the first mark: it answers our own scan
	defer func() { go b.watch(inotify) }()

	b.mu.Lock()
	defer b.mu.Unlock()
	c, err := b.marks.mark(set.trees, mounts, set.trees)
	if err != nil {
		return err
	}
	b.adopt(c)
	return nil
}

// adopt makes the outcome of a scan the current one. The lock is held.
func (b *Backend) adopt(c *change) {
	c.prune()
	b.logNew(c.gaps)
	b.points, b.gaps, b.plain = c.points, c.gaps, c.plain
	b.mounted = b.mounted[:0]
	for p := range c.mounts {
		b.mounted = append(b.mounted, p)
	}
	slices.Sort(b.mounted)
	b.publish()
}

// logNew tells of gaps that were not there before. The lock is held.
func (b *Backend) logNew(gaps []gap) {
	for _, g := range gaps {
		if !slices.Contains(b.gaps, g) {
			b.opts.Logger.Warn("opens in a place of the scope are not asked about", slog.String("place", g.path), slog.String("why", g.why))
		}
	}
}

// publish makes the numbers of marks known to Stats. The lock is held.
func (b *Backend) publish() {
	mounts, dirs := b.marks.count()
	b.counters.mounts.Store(int64(mounts))
	b.counters.dirs.Store(int64(dirs))
	b.counters.unasked.Store(int64(len(b.gaps)))
}

// Sources returns the sources, one for each worker.
func (b *Backend) Sources() []*Source { return slices.Clone(b.sources) }

// Configure replaces trees, wanted facts and failure verdicts, all or nothing: on
// an error everything stays as it was. When it returns, events of the new trees
// are asked and those of trees that were left out are not. A tree that is in force
// already may be gone by now: then it is a gap, see Warnings.
func (b *Backend) Configure(trees []string, want abi.Fields, onFail map[abi.Event]abi.Verdict) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return fmt.Errorf("configuring the fanotify backend: %w", ErrClosed)
	}
	mounts, err := readMounts(b.mountinfo)
	if err != nil {
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	old := b.settings.Load().trees
	set, err := newSettings(trees, old, want, onFail, newTable(mounts), b.opts.AskRemote)
	if err != nil {
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	c, err := b.marks.mark(set.trees, mounts, without(set.trees, old))
	if err != nil {
		c.undo()
		return fmt.Errorf("configuring the fanotify backend: %w", err)
	}
	b.settings.Store(set)
	b.adopt(c)
	return nil
}

// closeWait bounds how long Close waits for whoever is in a system call.
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
	// The watcher first: what it opens in the trees is answered until it is done.
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	out := waitFor(&b.watching, b.stop, timer)
	out = waitFor(&b.running, b.end, timer) && out
	out = b.vacate(timer) && out
	if !out {
		b.endErr = fmt.Errorf("closing the fanotify backend: a worker, a reader or the watcher did not come back within %v, a file system may keep it waiting; "+
			"held tasks go on when the process ends", closeWait)
		// Closing the group still lets go everything, unless a read is stuck in it.
		// Whoever comes back late finds a file under its number that cannot be read or
		// written, not another one.
		b.gone.Store(true)
		if err := unix.Dup3(b.procDir, b.group, unix.O_CLOEXEC); err != nil {
			unix.Close(b.group)
		}
		return b.endErr
	}
	for _, s := range b.sources {
		s.close()
	}
	b.closeDescriptors()
	return nil
}

// waitFor tells by an eventfd to end, and waits. False when the time is over.
func waitFor(w *sync.WaitGroup, eventfd int, timer *time.Timer) bool {
	if eventfd >= 0 {
		one := [8]byte{1}
		unix.Write(eventfd, one[:])
	}
	done := make(chan struct{})
	go func() {
		w.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-timer.C:
		timer.Reset(0) // over for whoever is next, too
		return false
	}
}

// signalLeft tells vacate to look again.
func (b *Backend) signalLeft() {
	if b.closing.Load() {
		select {
		case b.left <- struct{}{}:
		default:
		}
	}
}

// vacate wakes all workers and waits until they are out of their sources, and the
// readers have ended. False when one stays.
func (b *Backend) vacate(timer *time.Timer) bool {
	for b.readers.Load() > 0 {
		select {
		case <-b.left:
		case <-timer.C:
			return false
		}
	}
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
	fds := []int{b.group, b.procDir, b.fdDir, b.cgroupDir, b.stop, b.end}
	if b.marks != nil {
		fds = append(fds, b.marks.inotify)
	}
	if list := b.exempt.Load(); list != nil {
		for _, e := range *list {
			fds = append(fds, e.pidfd)
		}
	}
	for _, s := range b.sources {
		for i := range s.all {
			h := &s.all[i]
			if h.state.Load() != h.word(idle) {
				h.state.Store(h.word(closed))
				fds = append(fds, int(h.fd), int(h.pidfd))
			}
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

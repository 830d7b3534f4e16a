// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// exemptProcess is a process that is never asked about while it lives; the
// pidfd keeps a recycled id from inheriting that.
type exemptProcess struct {
	tgid  int
	pidfd int // -1: the own process, or a kernel without pidfd_open
}

func (e *exemptProcess) alive(p *[1]unix.PollFd) bool {
	return e.pidfd < 0 || !exited(e.pidfd, p)
}

// exempt reports whether the thread is ours or an exempt process's, without
// touching a file system.
func (s *Source) exempt() bool {
	h := s.held
	exempt := *s.b.exempt.Load()
	for i := range exempt {
		e := &exempt[i]
		member := h.tgid == uint32(e.tgid)
		if h.tgid == 0 && h.tid != 0 {
			// Signal 0 to a thread of that process: ESRCH if it is none of its.
			member = unix.Tgkill(e.tgid, int(h.tid), 0) != unix.ESRCH
		}
		// Not the end: the id may have been recycled for one that was added later.
		if member && e.alive(&s.poll) {
			return true
		}
	}
	return false
}

func (b *Backend) openExempt() error {
	b.exempt.Store(&[]exemptProcess{{tgid: os.Getpid(), pidfd: -1}})
	for _, pid := range b.opts.Exempt {
		if err := b.addExempt(pid); err != nil {
			return err
		}
	}
	return nil
}

// AddExempt makes one more process exempt, from the next event on. What it has
// asked about already is decided like any other.
func (b *Backend) AddExempt(pid int) error {
	if pid <= 0 {
		return fmt.Errorf("exempting process %d: give a positive id", pid)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return fmt.Errorf("exempting process %d: %w", pid, ErrClosed)
	}
	return b.addExempt(pid)
}

// addExempt replaces the list, for sources read it without a lock. Processes that
// have ended stay in it, a few bytes and a descriptor each.
func (b *Backend) addExempt(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ENOSYS) {
		fd, err = -1, nil // before 5.3: the id alone must do
	}
	if err != nil {
		return fmt.Errorf("exempting process %d: %w: name a running process", pid, err)
	}
	old := *b.exempt.Load()
	list := append(old[:len(old):len(old)], exemptProcess{tgid: pid, pidfd: fd})
	b.exempt.Store(&list)
	return nil
}

// selfFile is the file that the own process executes, whatever its name is by now.
const selfFile = "/proc/self/exe"

// ExecSelf calls start, which executes the daemon's own file, and meanwhile nobody is
// asked about that file. Without it the daemon could wait for itself: Go forks with
// vfork and keeps a scheduler's CPU until the child has executed, so the last one, or
// a collection of garbage, stops every worker. To kill the daemon would not help
// either, for the child still has the group open. Calls wait for each other.
func (b *Backend) ExecSelf(start func() error) error {
	b.selfMu.Lock()
	defer b.selfMu.Unlock()
	if err := b.markSelf(unix.FAN_MARK_ADD); err != nil {
		return fmt.Errorf("executing the own file: %w", err)
	}
	err := start()
	if again := b.markSelf(unix.FAN_MARK_REMOVE); again != nil && !errors.Is(again, ErrClosed) {
		err = errors.Join(err, fmt.Errorf("asking about the own file again: %w", again))
	}
	return err
}

func (b *Backend) markSelf(how uint) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing.Load() {
		return ErrClosed
	}
	if err := unix.FanotifyMark(b.group, how|unix.FAN_MARK_IGNORED_MASK, permMask, unix.AT_FDCWD, selfFile); err != nil {
		return fmt.Errorf("marking %s: %w", selfFile, err)
	}
	return nil
}

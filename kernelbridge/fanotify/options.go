// SPDX-License-Identifier: Apache-2.0

package fanotify

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Defaults of Options.
const (
	// DefaultHoldLimit is how long a task is held at most when Options says
	// nothing: above every sensible rule deadline, below what a person at a
	// terminal takes for a dead machine.
	DefaultHoldLimit = 5 * time.Second
	// MaxHoldLimit is the longest deadline that a rule can have.
	MaxHoldLimit = 60 * time.Second
	// minHoldLimit keeps the watchdog from answering before a worker had a
	// chance: a wake-up on a loaded machine takes milliseconds.
	minHoldLimit = 10 * time.Millisecond
)

// Options configures a Backend. Workers is required, and without trees nothing is
// asked; zero values of the others mean the defaults.
type Options struct {
	// Trees are the roots of the directory trees that are asked about:
	// absolute, clean, existing directories, none of them a symbolic link.
	Trees []string
	// Workers is how many sources there are, 1 to abi.MaxWorkers.
	Workers int
	// Exempt are process ids (tgids) that are never asked about while they
	// live. The own process is always exempt.
	Exempt []int
	// OnFail is the failure verdict of each event; a missing one allows.
	// Every errno reads EPERM here.
	OnFail map[abi.Event]abi.Verdict
	// AskRemote asks about file systems on the network and in FUSE, too. A server
	// that does not answer then keeps a reader for each open of its files (see
	// Stats.StuckReaders), and cannot be left even by killing this process.
	AskRemote bool
	// HoldLimit bounds how long a request that a worker took is held; an
	// unread one is held twice as long at most. 0 means DefaultHoldLimit.
	HoldLimit time.Duration
	// Want are the facts that rules consult. The others may be left out of
	// requests: exe, cgroup and access are fetched only when wanted.
	Want abi.Fields
	// Beat is called by the watchdog several times per HoldLimit and at least
	// four times a second, for package guard. It must not block. nil: nothing.
	Beat func()
	// OnFailure is told of the failure verdicts that the backend gives by itself,
	// from one goroutine. Those that come faster than it returns are counted and
	// lost. nil: nobody is told.
	OnFailure func(*abi.Failure)
	// Logger is for faults, never for verdicts; nil discards.
	Logger *slog.Logger
}

// check returns all that is wrong with o, and fills the defaults in.
func (o *Options) check() error {
	var errs []error
	if o.Workers < 1 || o.Workers > abi.MaxWorkers {
		errs = append(errs, fmt.Errorf("%d workers: give 1 to %d", o.Workers, abi.MaxWorkers))
	}
	if o.HoldLimit == 0 {
		o.HoldLimit = DefaultHoldLimit
	}
	if o.HoldLimit < minHoldLimit || o.HoldLimit > MaxHoldLimit {
		errs = append(errs, fmt.Errorf("a hold limit of %v: give %v to %v", o.HoldLimit, minHoldLimit, MaxHoldLimit))
	}
	for _, pid := range o.Exempt {
		if pid <= 0 {
			errs = append(errs, fmt.Errorf("exempt process id %d: give a positive one", pid))
		}
	}
	if o.Beat == nil {
		o.Beat = func() {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// settings is what Configure replaces as one.
type settings struct {
	trees  []string
	want   abi.Fields
	onFail [abi.EventCount]abi.Verdict
}

func newSettings(trees, known []string, want abi.Fields, onFail map[abi.Event]abi.Verdict, t *table, askRemote bool) (*settings, error) {
	s := &settings{want: want}
	var errs []error
	for e, v := range onFail {
		if e == abi.EventNone || e >= abi.EventCount {
			errs = append(errs, fmt.Errorf("failure verdict for the unknown event %d: use abi.EventOpen or abi.EventExec", e))
			continue
		}
		s.onFail[e] = v
	}
	var err error
	if s.trees, err = cleanTrees(trees, known, t, askRemote); err != nil {
		errs = append(errs, err)
	}
	return s, errors.Join(errs...)
}

// covers reports whether path is in one of the trees. It is a comparison of
// bytes on whole components: /srv/app does not cover /srv/apple.
func (s *settings) covers(path []byte) bool {
	for _, t := range s.trees {
		if within(path, t) {
			return true
		}
	}
	return false
}

// within reports whether path is root or below it.
func within[P []byte | string](path P, root string) bool {
	if root == "/" {
		return len(path) > 0 && path[0] == '/'
	}
	return len(path) >= len(root) && string(path[:len(root)]) == root && (len(path) == len(root) || path[len(root)] == '/')
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// guardTries is how often in a row another guard is started; each try waits twice
	// as long as the one before, a second at first.
	guardTries = 5
	// guardSteady is how long a guard has to live for the tries to be counted anew.
	guardSteady = 10 * time.Minute
)

// pulse is what keeper needs of a guard.Guard.
type pulse interface {
	Beat()
	PID() int
	Done() <-chan struct{}
	Close() error
}

// keeper sees to it that there is a guard: when it ends, another one is started.
type keeper struct {
	start func() (pulse, error)
	// execSelf calls start and lets the exec in it pass unasked.
	execSelf func(start func() error) error
	// exempt is told of the new guard. Until then it is asked about like any program.
	exempt func(pid int) error
	log    *slog.Logger

	now     atomic.Pointer[pulse]
	protect atomic.Pointer[func(pid int) error] // is told of the new guard, too; nil: not
	without atomic.Bool                         // there is none now
	stop    chan struct{}
	once    sync.Once
	running sync.WaitGroup
}

// newKeeper starts the first guard. It is watched from run on.
func newKeeper(start func() (pulse, error), log *slog.Logger) (*keeper, error) {
	g, err := start()
	if err != nil {
		return nil, err
	}
	k := &keeper{start: start, log: log, stop: make(chan struct{})}
	k.now.Store(&g)
	return k, nil
}

func (k *keeper) run(execSelf func(start func() error) error, exempt func(pid int) error) {
	k.execSelf, k.exempt = execSelf, exempt
	k.running.Go(k.watch)
}

// protectBy has protect told of the guard and of those in its place. A nil keeper has none.
func (k *keeper) protectBy(protect func(pid int) error) error {
	if k == nil {
		return nil
	}
	k.protect.Store(&protect)
	return protect(k.pid())
}

// beat passes a heartbeat on. It never blocks.
func (k *keeper) beat() { (*k.now.Load()).Beat() }

func (k *keeper) pid() int { return (*k.now.Load()).PID() }

// watch returns when the keeper is closed, or no guard stays.
func (k *keeper) watch() {
	for tries := 0; ; {
		began := time.Now()
		select {
		case <-k.stop:
			return
		case <-(*k.now.Load()).Done():
		}
		k.without.Store(true)
		k.log.Error("the guard has ended, starting another one: without it nobody ends a daemon that hangs")
		if time.Since(began) >= guardSteady {
			tries = 0
		}
		for k.without.Load() {
			if tries == guardTries {
				k.log.Error("no guard stays: the daemon goes on without one; restart it", slog.Int("tries", guardTries))
				return
			}
			if !k.pause(tries) {
				return
			}
			tries++
			if err := k.another(); err != nil {
				k.log.Error("starting another guard", slog.Any("error", err))
			}
		}
	}
}

// pause waits before a try, the first one excepted. False when the keeper is closed.
func (k *keeper) pause(tries int) bool {
	if tries == 0 {
		return true
	}
	timer := time.NewTimer(time.Second << (tries - 1))
	defer timer.Stop()
	select {
	case <-k.stop:
		return false
	case <-timer.C:
		return true
	}
}

// another puts a new guard in the place of the one that has ended.
func (k *keeper) another() error {
	var g pulse
	err := k.execSelf(func() error {
		started, err := k.start()
		if err == nil {
			g = started
		}
		return err
	})
	if err == nil {
		err = k.exempt(g.PID())
	}
	if err != nil {
		if g != nil {
			err = errors.Join(err, g.Close())
		}
		return err
	}
	if protect := k.protect.Load(); protect != nil {
		if err := (*protect)(g.PID()); err != nil {
			k.log.Error("the self-protection leaves the guard out", slog.Any("error", err))
		}
	}
	old := k.now.Swap(&g)
	k.without.Store(false)
	k.log.Warn("another guard watches the daemon", slog.Int("pid", g.PID()))
	return (*old).Close()
}

// problems says when there is no guard.
func (k *keeper) problems() []string {
	if !k.without.Load() {
		return nil
	}
	return []string{"the daemon has no guard: if it hangs, tasks are held until it is killed; restart it"}
}

// close ends the guard and the watch over it. It may be called more than once.
func (k *keeper) close() error {
	k.once.Do(func() { close(k.stop) })
	k.running.Wait()
	return (*k.now.Load()).Close()
}

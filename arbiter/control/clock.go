// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/arbiterd/arbiter/arbiter/cache"
	"github.com/arbiterd/arbiter/arbiter/store"
	"github.com/arbiterd/arbiter/rules"
)

// clockEvery is how long the rules in force are left without a look at the clock on the wall,
// which somebody may have set.
const clockEvery = 30 * time.Second

// clock knows when rule sets were pushed, and looks at the one in force when the time of one of
// its rules begins or ends. What is below the mutex belongs to whose turn it is.
type clock struct {
	boot    string    // of the machine
	started time.Time // of this process, with the clock that nobody sets

	mu     sync.Mutex
	pushed map[uint64]time.Time // likewise, by epoch: what this process was given

	timer  *time.Timer // nil: nothing is to be looked at
	closed bool
}

func (c *clock) init() {
	c.boot, c.started, c.pushed = bootID(), time.Now(), map[uint64]time.Time{}
}

// bootID names this start of the machine, "" when it is not known.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// StoredMoment is now, for a set of the store that an earlier daemon was given.
func StoredMoment(m store.Meta) rules.Moment {
	return rules.Moment{Now: notBefore(time.Now(), m), PushedAt: m.PushedAt, Restarted: true, Rebooted: m.Boot != bootID()}
}

// notBefore returns now, or when a set of the store was pushed where the clock is not set yet.
func notBefore(now time.Time, m store.Meta) time.Time {
	if now.Before(m.PushedAt) {
		return m.PushedAt
	}
	return now
}

// moment is now, for a rule set.
func (r *Rules) moment(rs *rules.RuleSet) rules.Moment {
	now := time.Now()
	r.clock.mu.Lock()
	at, here := r.clock.pushed[rs.Epoch()]
	r.clock.mu.Unlock()
	if here {
		return rules.Moment{Now: now, PushedAt: at.Round(0), Passed: now.Sub(at)}
	}
	if m, ok := r.metaOf(rs); ok {
		return rules.Moment{Now: notBefore(now, m), PushedAt: m.PushedAt, Passed: now.Sub(r.clock.started), Restarted: true, Rebooted: m.Boot != r.clock.boot}
	}
	return rules.Moment{Now: now, PushedAt: now}
}

// remember notes that a set is pushed now, and forgets those that cannot come back: a rollback
// is a push of its own.
func (r *Rules) remember(epoch uint64, at time.Time) {
	r.clock.mu.Lock()
	defer r.clock.mu.Unlock()
	r.clock.pushed[epoch] = at
	needed := []uint64{epoch, r.epoch()}
	if p, ok := r.Pending(); ok {
		needed = append(needed, p.Epoch, p.Previous)
	}
	for e := range r.clock.pushed {
		if !slices.Contains(needed, e) {
			delete(r.clock.pushed, e)
		}
	}
}

// Watch looks at the clock for the set in force, which the daemon has put there, and from then on
// when it has to.
func (r *Rules) Watch(ctx context.Context) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.end()
	r.look()
	return nil
}

// look puts the set in force again without the rules whose time it is not, and with those whose
// time it is, and says when the next look is. What cannot be done is tried again.
func (r *Rules) look() {
	live := r.cfg.Engine.Rules()
	if live == nil || r.clock.closed {
		return
	}
	at, next := live.At(r.moment(live))
	switch {
	case r.frozen.Load(): // another daemon takes over, and looks itself
		next = time.Now().Add(revertAgain)
	case at != live:
		if _, err := r.apply(context.Background(), live, cache.TimeCame); err != nil {
			r.cfg.Logger.Error("changing the rules as their time has come, trying again", slog.Any("error", err))
			next = time.Now().Add(revertAgain)
		} else {
			r.cfg.Logger.Info("the time of rules has come or gone", slog.Uint64("epoch", at.Epoch()), slog.Int("rules", at.Len()), slog.Int("off", at.Off()))
		}
	}
	r.lookAgain(next)
}

// lookAgain has look called at a time, zero for never.
func (r *Rules) lookAgain(next time.Time) {
	if r.clock.timer != nil {
		r.clock.timer.Stop()
		r.clock.timer = nil
	}
	if next.IsZero() || r.clock.closed {
		return
	}
	r.clock.timer = time.AfterFunc(min(max(time.Until(next), 0), clockEvery), func() {
		_ = r.begin(context.Background())
		defer r.end()
		r.look()
	})
}

// TimeWarnings names rules in force that do not count any more, or will not for long.
func (r *Rules) TimeWarnings() []string {
	live := r.inForce()
	if live == nil || !live.Timed() {
		return nil
	}
	m := r.moment(live)
	const most, soon = 5, 24 * time.Hour
	all := append(live.Over(m), live.Ending(m, soon)...)
	return all[:min(len(all), most)]
}

// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/time/rate"
)

// maxLimiters bounds the memory of a limiterSet.
const maxLimiters = 1024

// callLimits bounds the calls of each uid. The limit comes before authorisation,
// so one for all would let any user keep the admins out: uid 0 and each uid of the
// configuration have a limiter for good, and who is let in by a group shares
// nothing with strangers.
type callLimits struct {
	perSecond         rate.Limit
	burst             int
	admin, readOnly   AccessList
	reserved          map[uint32]*rate.Limiter // immutable
	members, stranger *limiterSet
}

func newCallLimits(cfg *Config) *callLimits {
	l := &callLimits{perSecond: rate.Limit(cfg.CallsPerSecond), burst: cfg.CallBurst, admin: cfg.Admin, readOnly: cfg.ReadOnly,
		reserved: map[uint32]*rate.Limiter{}}
	if cfg.CallsPerSecond < 0 {
		l.perSecond = rate.Inf
	}
	for _, uids := range [][]uint32{{0}, cfg.Admin.UIDs, cfg.ReadOnly.UIDs} {
		for _, uid := range uids {
			l.reserved[uid] = l.newLimiter()
		}
	}
	newSet := func() *limiterSet {
		return &limiterSet{new: l.newLimiter, byUID: map[uint32]*rate.Limiter{}, shared: l.newLimiter()}
	}
	l.members, l.stranger = newSet(), newSet()
	return l
}

func (l *callLimits) newLimiter() *rate.Limiter { return rate.NewLimiter(l.perSecond, l.burst) }

// Limit implements ratelimit.Limiter.
func (l *callLimits) Limit(ctx context.Context) error {
	who, known := callerOf(ctx)
	if l.limiter(who, known).Allow() {
		return nil
	}
	return fmt.Errorf("uid %d made more than %g calls per second (burst %d): wait a second", who.uid, float64(l.perSecond), l.burst)
}

func (l *callLimits) limiter(who caller, known bool) *rate.Limiter {
	if !known {
		return l.stranger.shared
	}
	if limiter, ok := l.reserved[who.uid]; ok {
		return limiter
	}
	if l.admin.has(who) || l.readOnly.has(who) {
		return l.members.get(who.uid)
	}
	return l.stranger.get(who.uid)
}

// limiterSet has a limiter for each of the uids that called lately, at most
// maxLimiters of them; those beyond share one.
type limiterSet struct {
	new    func() *rate.Limiter
	shared *rate.Limiter

	mu    sync.Mutex
	byUID map[uint32]*rate.Limiter
}

func (s *limiterSet) get(uid uint32) *rate.Limiter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if limiter, ok := s.byUID[uid]; ok {
		return limiter
	}
	if len(s.byUID) >= maxLimiters {
		s.evict()
	}
	if len(s.byUID) >= maxLimiters {
		return s.shared
	}
	limiter := s.new()
	s.byUID[uid] = limiter
	return limiter
}

// evict forgets the uids that have their whole burst again: a new limiter says the
// same as theirs.
func (s *limiterSet) evict() {
	for uid, limiter := range s.byUID {
		if limiter.Tokens() >= float64(limiter.Burst()) {
			delete(s.byUID, uid)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"sync"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

// ruleSets knows whose rules the kernel side decided by, for a while after they were
// replaced: what it tells of refusals is read later than they happen.
type ruleSets struct {
	mu   sync.Mutex
	last []ruleSetSince // ascending
}

type ruleSetSince struct {
	epoch uint64 // of the kernel side's policy
	set   *rules.RuleSet
}

// rememberedSets is how many are kept: notices wait for milliseconds, pushes are seldom.
const rememberedSets = 16

func (s *ruleSets) add(epoch uint64, set *rules.RuleSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = append(s.last, ruleSetSince{epoch, set})
	if len(s.last) > rememberedSets {
		s.last = append(s.last[:0], s.last[1:]...)
	}
}

// name turns a verdict of the kernel side into a record, with its rule, if it was one.
func (s *ruleSets) name(f *abi.Failure) arbiter.Event {
	e := failureEvent(f)
	if f.Reason != abi.ReasonNone {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.last) - 1; i >= 0; i-- {
		if at := s.last[i]; at.epoch <= f.Epoch && at.set != nil {
			e.Rule, e.Line, e.Message = at.set.RuleID(f.Rule), at.set.Line(f.Rule), at.set.Message(f.Rule)
			e.Epoch, e.Fingerprint = at.set.Epoch(), at.set.Fingerprint()
			break
		}
	}
	return e
}

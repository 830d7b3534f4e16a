// SPDX-License-Identifier: Apache-2.0

package fanotify

import "github.com/arbiterd/arbiter/kernelbridge/abi"

// mostHeld is how many events one source can have open: the one at hand and those that are
// set aside. The watchdog answers what is held too long, aside or not.
const mostHeld = 1 + abi.MaxHeld

// newHeld returns places for n events, idle. Tickets say in which place an event is: they
// are its number, and mostHeld more each time.
func newHeld(n int) []held {
	all := make([]held, n)
	for i := range all {
		all[i].pidfd, all[i].ticket = -1, uint64(i)
		all[i].state.Store(all[i].word(idle))
	}
	return all
}

// Hold sets the request that Next put into r aside; its descriptors stay open until Reply.
// One that is aside waits for something else now. See arbiter.Source.
func (s *Source) Hold(r *abi.Request) bool {
	if r.Ticket != s.held.ticket {
		at := r.Ticket % mostHeld
		return at < uint64(len(s.all)) && s.all[at].ticket == r.Ticket && s.all[at].state.Load() != s.all[at].word(idle)
	}
	for i := range s.all {
		if h := &s.all[i]; h != s.held && h.state.Load() == h.word(idle) {
			// What was read into the scratch space is about another event soon.
			s.held.infoOK, s.held.statOK = false, false
			s.held = h
			return true
		}
	}
	return false
}

// resume makes an event that was set aside the one at hand, until the func is called. False
// when it is none.
func (s *Source) resume(ticket uint64) (back func(), ok bool) {
	at, before := ticket%mostHeld, s.held
	if at >= uint64(len(s.all)) || s.all[at].ticket != ticket {
		return nil, false
	}
	s.held = &s.all[at]
	return func() { s.held = before }, true
}

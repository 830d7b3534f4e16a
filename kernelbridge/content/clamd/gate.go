// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/content"
)

// A daemon that is not there is left alone for firstRest after the first try, then twice as long
// each time, up to lastRest. So who waits for it is told at once, and it is found within lastRest.
const (
	firstRest = 50 * time.Millisecond
	lastRest  = 2 * time.Second
)

// gate lets questions through to a daemon, or says that it is not there. After a rest one
// question goes first, and the others when that was answered.
type gate struct {
	now func() time.Time // another one in tests
	log *slog.Logger

	mu     sync.Mutex
	why    error     // nil: it is there
	since  time.Time // of why
	rest   time.Duration
	until  time.Time // of the rest
	trying bool      // one is on its way
}

// enter returns nil for whoever may ask, and then calls leave or abandon with try: whether it is
// the one that goes first.
func (g *gate) enter() (try bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		return false, nil
	}
	if g.trying || g.now().Before(g.until) {
		return false, fmt.Errorf("%w: %w", content.ErrUnavailable, g.why)
	}
	g.trying = true
	return true, nil
}

// leave takes in what has become of a question: err says why nobody has answered. It returns
// what to tell whoever has asked.
func (g *gate) leave(try bool, err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if try {
		g.trying = false
	}
	if err == nil {
		if g.why != nil {
			g.log.Info("clamd answers again", slog.Duration("after", g.now().Sub(g.since)))
		}
		g.why, g.rest, g.until = nil, 0, time.Time{}
		return nil
	}
	now := g.now()
	if g.why == nil {
		g.since = now
		g.log.Error("clamd does not answer: files that have to be scanned get the failure verdict", slog.Any("error", err))
	}
	g.why = err
	if !now.Before(g.until) { // else it was on its way when the others failed
		g.rest = min(max(2*g.rest, firstRest), lastRest)
		g.until = now.Add(g.rest)
	}
	return fmt.Errorf("%w: %w", content.ErrUnavailable, err)
}

// abandon ends a question that nobody waits for any more.
func (g *gate) abandon(try bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if try {
		g.trying = false
	}
}

func (g *gate) problem() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why == nil {
		return ""
	}
	return fmt.Sprintf("the scanner does not answer since %s: %v; files that have to be scanned get the failure verdict", g.since.UTC().Format(time.DateTime+" UTC"), g.why)
}

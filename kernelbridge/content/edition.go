// SPDX-License-Identifier: Apache-2.0

package content

import (
	"log/slog"
	"sync"
	"time"
)

// editionEvery bounds how long a result outlives the signatures by which it was found, where the
// scanner tells of their change: who needs a result asks for the edition as often.
const editionEvery = 10 * time.Second

// editions is what the scanner has called itself. An edition is asked for before a scan and
// never after: signatures that are newer than the edition cost a scan more, older ones would
// be taken for new.
//
// One asks at a time. Who wants a scan takes the last edition meanwhile, and is not kept where a
// scanner is silent; whose file was scanned before waits, away from those who scan.
type editions struct {
	mu       sync.Mutex
	name     string    // the last one, "" before the first
	at       time.Time // when it was asked for last
	answered bool      // it was told then
	asking   bool
	waiting  []job // that need what it is now
}

// last returns the edition of the scanner, and whether it holds: it was asked for a moment ago. If
// the scanner has not told then the one before holds, which nobody knows to have changed:
// Scanning.MaxAge bounds what comes of that.
func (e *editions) last(now time.Time) (name string, holds bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.name, now.Sub(e.at) < editionEvery
}

// ask returns the edition for a scan that begins now, "" when none is known.
func (e *editions) ask(p *Pool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.asking && !(e.answered && p.now().Sub(e.at) < editionEvery) {
		e.asking = true
		e.mu.Unlock()
		e.refresh(p)
		e.mu.Lock()
	}
	return e.name
}

// wait has a job looked at again when the edition is known as it is now. False: there is no room.
func (e *editions) wait(p *Pool, j job) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.waiting) == queued {
		return false
	}
	e.waiting = append(e.waiting, j)
	if !e.asking {
		e.asking = true
		p.running.Go(func() { e.refresh(p) })
	}
	return true
}

// refresh asks the scanner, and then has the jobs looked at that wait. Whoever calls it has set asking.
func (e *editions) refresh(p *Pool) {
	at := p.now()
	name, err := p.edition()
	e.mu.Lock()
	if err == nil && e.name != "" && e.name != name {
		p.opts.Logger.Info("the scanner has other signatures", slog.String("now", name), slog.String("before", e.name))
	}
	if err == nil {
		e.name = name
	}
	e.at, e.answered, e.asking = at, err == nil, false
	waiting := e.waiting
	e.waiting = nil
	e.mu.Unlock()
	for i := range waiting {
		p.serve(&waiting[i], nil, p.look) // which hashes nothing for a scan
	}
}

// edition asks the scanner. A panic is a bug of ours: nothing is known then.
func (p *Pool) edition() (name string, err error) {
	err = errScan
	defer func() {
		if v := recover(); v != nil {
			p.bug(v)
		}
	}()
	return p.opts.Scan.Scanner.Edition(p.stop)
}

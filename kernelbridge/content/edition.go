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
type editions struct {
	asking sync.Mutex // held by who asks

	mu    sync.Mutex
	name  string
	at    time.Time // when it was asked for
	known bool
}

// last returns the edition of the scanner as it was a moment ago, or not fresh.
func (e *editions) last(now time.Time) (name string, fresh bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.name, e.known && now.Sub(e.at) < editionEvery
}

// ask returns the edition as it is now. While the scanner does not answer it is the last one: it
// has none else that anybody could know of, and Scanning.MaxAge bounds what comes of that.
func (e *editions) ask(p *Pool) (name string, known bool) {
	if name, fresh := e.last(p.now()); fresh {
		return name, true
	}
	e.asking.Lock()
	defer e.asking.Unlock()
	if name, fresh := e.last(p.now()); fresh {
		return name, true // who held the lock has asked
	}
	at := p.now()
	name, err := p.opts.Scan.Scanner.Edition(p.stop)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil {
		return e.name, e.known
	}
	if e.known && e.name != name {
		p.opts.Logger.Info("the scanner has other signatures", slog.String("now", name), slog.String("before", e.name))
	}
	e.name, e.at, e.known = name, at, true
	return name, true
}

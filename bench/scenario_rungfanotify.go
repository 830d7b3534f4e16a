// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
)

// rungFanotifyID is the row of what a sleep in a hook is instead of.
const rungFanotifyID = rungPrefix + "fanotify-same"

// rungFanotify has the caller of the other rungs open its file while a blocking responder allows that by
// fanotify. Who asks is a process of its own here too, as it is with a real responder.
type rungFanotify struct{ sameCPU bool }

func (s rungFanotify) Describe() Info {
	i := Info{ID: rungPrefix + "fanotify-other", Mechanism: Fanotify, Responder: "open, other CPU, blocking read", Baseline: rungPrefix + callOpen, MaxSamples: rungSamples}
	if s.sameCPU {
		i.ID, i.Responder, i.SameCPU = rungFanotifyID, "open, same CPU, blocking read", true
	}
	return i
}

func (s rungFanotify) Open(at Place) (_ Session, err error) {
	// The responder blocks without the Go scheduler's knowledge, and keeps a processor of it as a polling worker does.
	runtime.GOMAXPROCS(runtime.NumCPU() + 3)
	sess := &rungFanotifySession{cpu: at.Responder}
	defer func() {
		if err != nil {
			err = errors.Join(err, sess.Close())
		}
	}()
	if sess.dir, err = callerDir(); err != nil {
		return nil, err
	}
	if sess.caller, err = startOrdered(CallerWord, callOpen, sess.dir, strconv.Itoa(at.Requester)); err != nil {
		return nil, err
	}
	// Last: from here on an open of the file needs who answers it.
	if sess.responder, err = openFanotify(false, false, 0, filepath.Join(sess.dir, callerFile)); err != nil {
		return nil, err
	}
	return sess, nil
}

type rungFanotifySession struct {
	cpu       int
	dir       string
	caller    rungCaller
	responder *fanotifyResponder
	round     sync.Mutex // is held by the round that is under way
}

// Round answers until the caller is done. What ends the responder is an open of its own, which it
// answers as well.
func (s *rungFanotifySession) Round(o RoundOptions, samples []uint32) (Outcome, error) {
	s.round.Lock()
	defer s.round.Unlock()
	s.responder.own = false
	up, answered, fault := make(chan error, 1), 0, make(chan error, 1)
	go func() {
		err := pinThread(s.cpu)
		up <- err
		for err == nil && !s.responder.own {
			var n int
			n, err = s.responder.answer()
			answered += n
		}
		fault <- err
	}()
	if err := <-up; err != nil {
		return Outcome{}, err
	}
	type called struct {
		n   int
		err error
	}
	calls := make(chan called, 1)
	go func() {
		n, err := s.caller.round(o, samples)
		calls <- called{n, err}
	}()
	var c called
	select {
	case c = <-calls:
	case err := <-fault: // whoever is held is let go with the group, which ends with this process
		return Outcome{}, err
	}
	select {
	case err := <-fault: // both at once: nobody would answer the open
		return Outcome{}, errors.Join(c.err, err)
	default:
	}
	f, err := os.Open(filepath.Join(s.dir, callerFile))
	if err != nil {
		return Outcome{}, errors.Join(c.err, fmt.Errorf("ending who answers: %w", err))
	}
	if err := errors.Join(c.err, f.Close(), <-fault); err != nil {
		return Outcome{}, err
	}
	// Of a round whose budget went while it warmed up nobody knows how many calls it had.
	if want := c.n + o.Warmup + 1; answered != want && (c.n > 0 || answered > want) {
		return Outcome{}, fmt.Errorf("counting the questions of %d calls: %d were answered", want, answered)
	}
	return Outcome{Samples: c.n}, nil
}

// Close ends the caller, the round with it, then fanotify.
func (s *rungFanotifySession) Close() error {
	var errs []error
	if s.caller != nil {
		errs = append(errs, s.caller.close())
	}
	s.round.Lock()
	defer s.round.Unlock()
	if s.responder != nil {
		errs = append(errs, s.responder.close())
	}
	if s.dir != "" {
		errs = append(errs, os.RemoveAll(s.dir))
	}
	return errors.Join(errs...)
}

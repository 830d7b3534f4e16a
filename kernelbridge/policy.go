// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// Policy is what the hooks do, beside where: see Scope.
type Policy struct {
	Asked uint64                     // bit e: event e is asked about
	Want  [abi.EventCount]abi.Fields // facts to fetch
	// Rules are what the kernel side decides alone, by event: see abi.DecideKernel.
	Rules [abi.EventCount][]abi.KernelRule
	// Keep is, for each event, what an allow that a worker lets the kernel keep depends
	// on, with abi.FieldKeep; without that nothing is kept.
	Keep   [abi.EventCount]abi.Fields
	OnFail [abi.EventCount]abi.Verdict // failure verdicts
	Sleep  time.Duration               // bound of the wait of a task that gives its CPU back
	Mute   Mute                        // what is left alone inside of the scope
	Trees  []Program                   // of the process trees that are told of: see LSM.Marks
}

// Configure puts a scope and a policy in force. On an error everything is as before.
func (b *LSM) Configure(s Scope, p Policy) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	next, err := resolve(s, p.Mute, p.Trees)
	if err != nil {
		return err
	}
	return b.configure(next, p)
}

// Moved reports whether the scope and the mute in force, which s and m are, name another
// thing by now than when they were looked up, or one that is not there any more.
func (b *LSM) Moved(s Scope, m Mute) bool {
	now, err := resolve(s, m, nil)
	b.mu.Lock()
	defer b.mu.Unlock()
	return err != nil || !reflect.DeepEqual(now.scope, b.keys.scope) || !reflect.DeepEqual(now.mute, b.keys.mute)
}

// SetPolicy puts a policy in force with the scope and the mute that are, p.Mute is not
// looked at. Nothing is looked up: what has become of the paths of the scope is no matter.
func (b *LSM) SetPolicy(p Policy) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return ErrClosed
	}
	next := b.keys
	next.rules = rootsOf(p.Trees)
	return b.configure(next, p)
}

func (b *LSM) configure(next scopeKeys, p Policy) error {
	if err := b.hooks.attach(p.Asked); err != nil {
		return errors.Join(err, b.hooks.detachOthers(b.asked))
	}
	words, err := b.decide.write(p.Rules)
	if err != nil {
		return err
	}
	h := b.queue.Header()
	word := atomic.LoadUint32(&h.Scope)
	if err := b.prepare(&next, word); err != nil {
		return err
	}
	// From the next load of this word on the new scope is in force. Facts are
	// wanted from before it on: too many are no harm, too few are.
	both := p
	both.Asked |= b.asked
	for e := range both.Want {
		both.Want[e] |= abi.Fields(h.Want[e])
	}
	b.decide.suspend(h) // the words below are about the new scope
	b.queue.setPolicy(both)
	atomic.StoreUint32(&h.Scope, next.word(word))
	b.keys = next
	b.queue.setPolicy(p)
	b.decide.enforce(h, words)
	b.asked = p.Asked
	b.tidy(b.hooks.detachOthers(p.Asked))
	return nil
}

// prepare writes what the next scope needs beside what the current one does.
func (b *LSM) prepare(next *scopeKeys, word uint32) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, b.lineage.keep(b.keys.bits))
		}
	}()
	var fresh uint64
	if next.bits, fresh, err = b.lineage.prepare(next.roots()); err != nil {
		return err
	}
	if fresh != 0 {
		b.queue.countMarks()
	}
	if !b.swept {
		// What is left of an older scope has bits that would count again.
		if err := b.keys.sweep(&b.hooks.maps); err != nil {
			return fmt.Errorf("writing the scope: %w", err)
		}
	}
	b.swept = false
	if err := next.mark(&b.hooks.maps, &b.keys, word); err != nil {
		return fmt.Errorf("writing the scope: %w", err)
	}
	return nil
}

// tidy removes what the scope before has left, once the new one is in force.
func (b *LSM) tidy(err error) {
	if err := errors.Join(err, b.keys.sweep(&b.hooks.maps), b.lineage.keep(b.keys.bits)); err != nil {
		b.logger.Error("tidying the scope up, trying again at the next change", slog.Any("error", err))
		return
	}
	b.swept = true
}

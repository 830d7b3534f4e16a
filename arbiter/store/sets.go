// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// Current returns the rule set in force, false when none is.
func (s *Store) Current() (Meta, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.sets[s.pointer.Epoch]
	return m, ok
}

// High returns the highest serial that was ever in force to stay. It never goes down, not
// by a rollback either.
func (s *Store) High() High {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pointer.High
}

// Next returns the epoch that the next rule set gets: higher than every one
// before, across restarts too.
func (s *Store) Next() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pointer.Last + 1
}

// History returns the rule sets that are kept, the newest first, at most limit
// of them; 0 means all. A prepared one is not among them.
func (s *Store) History(limit int) []Meta {
	s.mu.Lock()
	defer s.mu.Unlock()
	epochs := slices.Sorted(maps.Keys(s.sets))
	slices.Reverse(epochs)
	var out []Meta
	for _, e := range epochs {
		if limit > 0 && len(out) == limit {
			break
		}
		if e != s.prepared {
			out = append(out, s.sets[e])
		}
	}
	return out
}

// Load returns a rule set with its source, read and checked anew. The error
// wraps ErrNotFound or, when the file was damaged since Open, ErrCorrupt.
func (s *Store) Load(epoch uint64) (Meta, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Meta{}, nil, ErrClosed
	}
	if _, ok := s.sets[epoch]; !ok || epoch == s.prepared {
		return Meta{}, nil, fmt.Errorf("loading epoch %d: %w", epoch, ErrNotFound)
	}
	return readSet(s.dir, epoch)
}

// Prepare makes a rule set durable without putting it in force. m.Epoch must be
// what Next returned, and a set that was prepared before must have been
// committed or discarded.
func (s *Store) Prepare(m Meta, source []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.Size = len(source)
	m.PushedAt = m.PushedAt.UTC()
	m.High = s.pointer.High.raisedBy(m.Serial, source)
	switch {
	case s.closed, s.released:
		return ErrClosed
	case s.prepared != 0:
		return fmt.Errorf("storing epoch %d: epoch %d is neither committed nor discarded", m.Epoch, s.prepared)
	case m.Epoch != s.pointer.Last+1:
		return fmt.Errorf("storing epoch %d: the next one is %d", m.Epoch, s.pointer.Last+1)
	}
	parts, err := encodeSet(m, source)
	if err != nil {
		return fmt.Errorf("storing epoch %d: %w", m.Epoch, err)
	}
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if size > maxFileBytes {
		return fmt.Errorf("storing epoch %d: %d bytes are more than the %d that fit", m.Epoch, size, maxFileBytes)
	}
	// The number is used up whatever happens: after an error the file may be there.
	s.pointer.Last = m.Epoch
	if err := s.writeFile(setName(m.Epoch), parts); err != nil {
		return errors.Join(fmt.Errorf("storing epoch %d: %w", m.Epoch, err), s.remove(m.Epoch))
	}
	s.sets[m.Epoch] = m
	s.prepared = m.Epoch
	return nil
}

// Commit puts the prepared rule set in force, durably, and forgets the oldest
// ones beyond Options.Keep and KeepBytes. After an error the one before is in force, and the
// prepared one still waits for Commit or Discard.
func (s *Store) Commit(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if epoch != s.prepared || epoch == 0 {
		return fmt.Errorf("putting epoch %d in force: it is not prepared", epoch)
	}
	before := s.pointer
	after := pointer{Epoch: epoch, Last: before.Last, High: s.sets[epoch].High}
	if err := s.writePointer(after); err != nil {
		// If only the last step failed the new pointer is visible: take it back.
		return errors.Join(fmt.Errorf("putting epoch %d in force: %w", epoch, err), s.writePointer(before))
	}
	s.pointer, s.prepared = after, 0
	s.prune()
	return nil
}

// Discard takes back the prepared rule set. Its epoch is not given again. After
// an error it is gone for this process all the same, and what is left of it is
// set aside by the next Open.
func (s *Store) Discard(epoch uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if epoch != s.prepared || epoch == 0 {
		return fmt.Errorf("discarding epoch %d: it is not prepared", epoch)
	}
	s.prepared = 0
	delete(s.sets, epoch)
	// First the number, then the file that also tells it.
	if err := s.writePointer(s.pointer); err != nil {
		return fmt.Errorf("discarding epoch %d: %w", epoch, err)
	}
	if err := s.remove(epoch); err != nil {
		return fmt.Errorf("discarding epoch %d: %w", epoch, err)
	}
	return nil
}

// prune forgets the oldest sets; s.mu is held. A file that cannot be removed is
// tried again after the next push.
func (s *Store) prune() {
	kept, bytes := 0, 0
	for _, e := range slices.Backward(slices.Sorted(maps.Keys(s.sets))) {
		kept++
		bytes += s.sets[e].Size
		if e == s.pointer.Epoch || kept <= s.keep && bytes <= s.keepBytes {
			continue
		}
		if s.remove(e) == nil {
			delete(s.sets, e)
		}
	}
}

// remove deletes the file of an epoch; that it is not there is fine.
func (s *Store) remove(epoch uint64) error {
	err := os.Remove(filepath.Join(s.dir, setName(epoch)))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

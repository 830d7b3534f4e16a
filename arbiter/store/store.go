// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// How many rule sets are kept when Options does not say, and how many bytes they may have
// together.
const (
	DefaultKeep      = 50
	DefaultKeepBytes = 1 << 30
)

// Options of Open; the zero value is the default.
type Options struct {
	// Keep is how many rule sets are kept, the one in force among them; 0 means
	// DefaultKeep.
	Keep int
	// KeepBytes is how many bytes the texts of those that are kept have at most; the one in
	// force is kept in any case. 0 means DefaultKeepBytes.
	KeepBytes int
}

// Incident is something that was wrong when the store was opened. The store has
// dealt with it; an operator should know.
type Incident struct {
	File    string // its path before
	Problem string
	MovedTo string // its path now, empty when there was nothing to move
}

// String returns the incident on one line.
func (i Incident) String() string {
	if i.MovedTo == "" {
		return i.File + ": " + i.Problem
	}
	return i.File + ": " + i.Problem + "; moved to " + i.MovedTo
}

// Store is a directory of rule sets. All methods may be called concurrently.
type Store struct {
	dir       string
	keep      int
	keepBytes int
	lock      *os.File
	incidents []Incident // immutable after Open
	// fault is called before each step of a write; tests set it.
	fault func(file, step string) error

	mu       sync.Mutex
	closed   bool
	released bool            // another process may have the directory
	sets     map[uint64]Meta // all that are kept and readable
	prepared uint64          // in sets and not committed, 0 for none
	pointer  pointer
}

// Open opens the store in dir, which it makes if it is not there, and repairs
// it: what is damaged or half done is moved to set-aside/ and told by
// Incidents, and the newest good rule set is the current one. The error wraps
// ErrLocked when another process has it open; a directory that cannot be written
// or a file that this process cannot open is an error too, a damaged file never is.
func Open(dir string, o Options) (*Store, error) {
	s := &Store{dir: filepath.Clean(dir), keep: o.Keep, keepBytes: cmp.Or(o.KeepBytes, DefaultKeepBytes), sets: map[uint64]Meta{}}
	if s.keep == 0 {
		s.keep = DefaultKeep
	}
	if s.keep < 1 {
		return nil, fmt.Errorf("opening rule store %s: keeping %d sets: keep 1 or more", dir, o.Keep)
	}
	if err := s.open(); err != nil {
		if s.lock != nil {
			s.lock.Close()
		}
		return nil, fmt.Errorf("opening rule store %s: %w", dir, err)
	}
	return s, nil
}

func (s *Store) open() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := checkDir(s.dir); err != nil {
		return err
	}
	var err error
	if s.lock, err = lockDir(s.dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var last uint64 // by file names, good or bad
	fresh := true   // nothing was ever stored here
	for _, e := range entries {
		name := e.Name()
		if epoch, ok := parseName(name); ok {
			fresh = false
			last = max(last, epoch)
			if err := s.openSet(name, epoch); err != nil {
				return err
			}
		} else if strings.HasSuffix(name, tempSuffix) {
			fresh = false
			s.bad(name, "it is half written: a write was interrupted")
		} else if name == asideName {
			fresh = false
		}
	}
	last = max(last, s.lastAside())
	return s.openPointer(last, fresh)
}

// openSet reads one rule set's file and remembers its Meta.
func (s *Store) openSet(name string, epoch uint64) error {
	data, err := readFile(filepath.Join(s.dir, name))
	var m Meta
	if err == nil {
		m, _, err = decodeSet(data)
	}
	if err == nil && m.Epoch != epoch {
		err = fmt.Errorf("%w: it holds epoch %d", ErrCorrupt, m.Epoch)
	}
	if err != nil && !damaged(err) {
		return err
	}
	if err != nil {
		s.bad(name, err.Error())
		return nil
	}
	s.sets[epoch] = m
	return nil
}

// openPointer finds out which set is in force, given the highest epoch that any
// file's name has, and writes it down if the file "current" says otherwise.
func (s *Store) openPointer(last uint64, fresh bool) error {
	data, err := readFile(filepath.Join(s.dir, currentName))
	var said pointer
	if err == nil {
		said, err = decodePointer(data)
	}
	switch {
	case err == nil:
		s.dropUncommitted(said.Epoch)
	case errors.Is(err, os.ErrNotExist):
		if !fresh {
			s.incident(Incident{File: filepath.Join(s.dir, currentName), Problem: "it is missing"})
		}
	case damaged(err):
		s.bad(currentName, err.Error())
	default:
		return err
	}
	known := err == nil
	s.pointer = pointer{Epoch: newest(s.sets), Last: max(last, said.Last), High: highest(said.High, s.sets)}
	if known && said.Epoch != s.pointer.Epoch {
		s.incident(Incident{File: filepath.Join(s.dir, setName(said.Epoch)),
			Problem: fmt.Sprintf("epoch %d was in force and cannot be read; %s", said.Epoch, fallback(s.pointer.Epoch))})
	}
	if !known && !fresh {
		s.incident(Incident{File: filepath.Join(s.dir, currentName),
			Problem: "which epoch was in force is not known; " + fallback(s.pointer.Epoch)})
	}
	if known && said == s.pointer {
		return nil
	}
	return s.writePointer(s.pointer)
}

func fallback(epoch uint64) string {
	if epoch == 0 {
		return "no good rule set is left: push one"
	}
	return fmt.Sprintf("epoch %d, the newest good one, is used", epoch)
}

// dropUncommitted sets aside what is newer than the epoch in force: each change
// makes a new epoch, so it was prepared and the machine stopped before it came
// in force.
func (s *Store) dropUncommitted(current uint64) {
	for _, epoch := range slices.Sorted(maps.Keys(s.sets)) {
		if epoch > current {
			delete(s.sets, epoch)
			s.bad(setName(epoch), "a push was interrupted, or nobody confirmed it before the daemon died")
		}
	}
}

// bad sets a file aside and notes why.
func (s *Store) bad(name, problem string) {
	to, err := s.setAside(name)
	if err != nil {
		problem += "; moving it away: " + err.Error()
	}
	s.incident(Incident{File: filepath.Join(s.dir, name), Problem: problem, MovedTo: to})
}

func (s *Store) incident(i Incident) { s.incidents = append(s.incidents, i) }

// lastAside returns the highest epoch among the names in set-aside/.
func (s *Store) lastAside() (last uint64) {
	entries, _ := os.ReadDir(filepath.Join(s.dir, asideName)) // not there: none
	for _, e := range entries {
		name, _, _ := strings.Cut(e.Name(), rulesSuffix)
		if epoch, ok := parseName(name + rulesSuffix); ok {
			last = max(last, epoch)
		}
	}
	return last
}

// parseName returns the epoch in the name of a rule set's file.
func parseName(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, rulesSuffix)
	if !ok || len(digits) != epochDigits {
		return 0, false
	}
	epoch, err := strconv.ParseUint(digits, 10, 64)
	return epoch, err == nil && epoch > 0
}

// newest returns the highest epoch of sets, 0 when there is none.
func newest(sets map[uint64]Meta) (epoch uint64) {
	for e := range sets {
		epoch = max(epoch, e)
	}
	return epoch
}

// highest returns the highest serial of those that are said.
func highest(h High, sets map[uint64]Meta) High {
	for _, m := range sets {
		if m.High.Serial > h.Serial {
			h = m.High
		}
	}
	return h
}

func (s *Store) writePointer(p pointer) error {
	parts, err := encodePointer(p)
	if err != nil {
		return err
	}
	if err := s.writeFile(currentName, parts); err != nil {
		return fmt.Errorf("writing %s: %w", filepath.Join(s.dir, currentName), err)
	}
	return nil
}

// Dir returns the directory.
func (s *Store) Dir() string { return s.dir }

// Incidents returns what was wrong when the store was opened, nothing when all
// was well.
func (s *Store) Incidents() []Incident { return slices.Clone(s.incidents) }

// Release lets another process have the directory; nothing can be stored until Retake.
func (s *Store) Release() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.released {
		return nil
	}
	s.released = true
	return s.lock.Close()
}

// Retake is the way back from Release, when nobody has stored anything meanwhile. The
// error wraps ErrLocked while another process has the directory.
func (s *Store) Retake() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || !s.released {
		return nil
	}
	lock, err := lockDir(s.dir)
	if err != nil {
		return fmt.Errorf("taking rule store %s back: %w", s.dir, err)
	}
	s.lock, s.released = lock, false
	return nil
}

// Close lets go of the directory. It may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if s.released {
		return nil
	}
	return s.lock.Close()
}

// SPDX-License-Identifier: Apache-2.0

package store

import (
	"os"
	"path/filepath"
	"testing"
)

// putAs prepares and commits a set with a serial, 0 for an unsigned one.
func putAs(t *testing.T, s *Store, serial uint64, text string) {
	t.Helper()
	m := Meta{Epoch: s.Next(), Serial: serial}
	if err := s.Prepare(m, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(m.Epoch); err != nil {
		t.Fatal(err)
	}
}

// The highest serial goes up with what is committed, and never down: not by older or
// unsigned sets, not when the set that had it is forgotten, and not with either of the
// files that say it.
func TestHighestSerial(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{Keep: 2})
	if got := s.High(); got != (High{}) {
		t.Fatalf("of an empty store: %+v, want nothing", got)
	}
	putAs(t, s, 0, "unsigned")
	if got := s.High(); got != (High{}) {
		t.Fatalf("of an unsigned set: %+v, want nothing", got)
	}
	putAs(t, s, 7, "seven")
	want := High{}.raisedBy(7, []byte("seven"))
	if err := s.Prepare(Meta{Epoch: s.Next(), Serial: 8}, []byte("eight")); err != nil {
		t.Fatal(err)
	}
	if got := s.High(); got != want {
		t.Errorf("with a prepared set: %+v, want %+v", got, want)
	}
	if err := s.Discard(3); err != nil {
		t.Fatal(err)
	}
	putAs(t, s, 3, "three")     // a rollback
	putAs(t, s, 0, "unsigned")  // and the set of serial 7 is forgotten
	putAs(t, s, 7, "seven too") // the store judges nothing, and keeps the first
	check := func(when string) {
		t.Helper()
		if got := s.High(); got != want {
			t.Errorf("%s: %+v, want %+v", when, got, want)
		}
	}
	check("after five sets")
	for _, name := range []string{currentName, setName(s.pointer.Epoch)} {
		s.Close()
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir, Options{Keep: 2})
		check("without " + name)
	}
}

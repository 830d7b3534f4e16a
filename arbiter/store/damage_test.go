// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// twoSets returns a directory with epochs 1 ("one") and 2 ("two"), closed.
func twoSets(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	s := open(t, dir, Options{})
	push(t, s, "one")
	push(t, s, "two")
	s.Close()
	return dir
}

// copyDir copies the plain files of a store, into memory if there is a file
// system for that: a thousand copies are synced a few times each.
func copyDir(t *testing.T, from string) string {
	t.Helper()
	parent, err := os.MkdirTemp("/dev/shm", "arbiter-store-")
	if err != nil {
		parent = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	to := filepath.Join(parent, "rules")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(to, 0o700); err != nil {
		t.Fatal(err)
	}
	return to
}

// damageEach opens a copy of the store for each way to damage the file, and
// checks that the damage is found and epoch is in force.
func damageEach(t *testing.T, name string, ways func(data []byte, damage func(what string, data []byte)), epoch uint64, text string) {
	t.Helper()
	from := twoSets(t)
	data, err := os.ReadFile(filepath.Join(from, name))
	if err != nil {
		t.Fatal(err)
	}
	ways(data, func(what string, bad []byte) {
		dir := copyDir(t, from)
		if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatalf("%s: Open: %v", what, err)
		}
		defer s.Close()
		wantCurrent(t, s, epoch, text)
		wantHigh(t, s, 2, "two") // whichever file is lost
		incidents := s.Incidents()
		if len(incidents) == 0 || incidents[0].MovedTo == "" {
			t.Fatalf("%s: incidents %v, want the first to tell where the file is now", what, incidents)
		}
		aside, err := os.ReadFile(incidents[0].MovedTo)
		if err != nil || !bytes.Equal(aside, bad) {
			t.Fatalf("%s: set aside %q (%v), want %q", what, aside, err, bad)
		}
		if got := s.Next(); got != 3 {
			t.Fatalf("%s: next epoch is %d, want 3", what, got)
		}
		// Repaired for good: nothing is found the second time.
		s.Close()
		s, err = Open(dir, Options{})
		if err != nil || len(s.Incidents()) != 0 {
			t.Fatalf("%s: Open again: %v, incidents %v, want none", what, err, s.Incidents())
		}
		s.Close()
	})
}

func cuts(data []byte, damage func(string, []byte)) {
	for n := range data {
		damage(fmt.Sprintf("cut to %d of %d bytes", n, len(data)), data[:n])
	}
}

func flips(data []byte, damage func(string, []byte)) {
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		damage(fmt.Sprintf("bit %d of byte %d flipped", i%8, i), bad)
	}
}

func TestSetCutAtEveryLength(t *testing.T)     { damageEach(t, setName(2), cuts, 1, "one") }
func TestSetFlippedAtEveryByte(t *testing.T)   { damageEach(t, setName(2), flips, 1, "one") }
func TestPointerCutAtEveryLength(t *testing.T) { damageEach(t, currentName, cuts, 2, "two") }
func TestPointerFlippedAtEveryByte(t *testing.T) {
	damageEach(t, currentName, flips, 2, "two")
}

func TestMissingAndStrangeFiles(t *testing.T) {
	remove := func(name string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name      string
		damage    func(t *testing.T, dir string)
		epoch     uint64
		text      string
		incidents []string
	}{
		{"set missing", remove(setName(2)), 1, "one", []string{"epoch 2 was in force and cannot be read; epoch 1"}},
		{"pointer missing", remove(currentName), 2, "two", []string{"it is missing", "epoch 2, the newest good one"}},
		{"set is a directory", func(t *testing.T, dir string) {
			remove(setName(2))(t, dir)
			if err := os.Mkdir(filepath.Join(dir, setName(2)), 0o700); err != nil {
				t.Fatal(err)
			}
		}, 1, "one", []string{"no regular file", "epoch 1, the newest good one"}},
		{"set is a symlink", func(t *testing.T, dir string) {
			remove(setName(2))(t, dir)
			if err := os.Symlink("/dev/zero", filepath.Join(dir, setName(2))); err != nil {
				t.Fatal(err)
			}
		}, 1, "one", []string{"symbolic links", "epoch 1, the newest good one"}},
		{"set is a pipe", func(t *testing.T, dir string) {
			remove(setName(2))(t, dir)
			if err := syscall.Mkfifo(filepath.Join(dir, setName(2)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1, "one", []string{"no regular file", "epoch 1, the newest good one"}},
		{"set under another name", func(t *testing.T, dir string) {
			data, err := os.ReadFile(filepath.Join(dir, setName(1)))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, setName(2)), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1, "one", []string{"it holds epoch 1", "epoch 1, the newest good one"}},
		{"set too large", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, setName(2)), maxFileBytes+1); err != nil {
				t.Fatal(err)
			}
		}, 1, "one", []string{"more than the", "epoch 1, the newest good one"}},
		{"left by an interrupted write", func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, setName(3)+tempSuffix), []byte("arb"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 2, "two", []string{"half written"}},
		{"files of others", func(t *testing.T, dir string) {
			for _, name := range []string{"README", "7.rules", "0000000000000000000x.rules", "00000000000000000000.rules"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("hello"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, 2, "two", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := twoSets(t)
			tt.damage(t, dir)
			s := open(t, dir, Options{})
			wantCurrent(t, s, tt.epoch, tt.text)
			wantHigh(t, s, 2, "two")
			wantIncidents(t, s, tt.incidents...)
		})
	}
}

// machineStop is what the fault hook panics with: nothing of the store's code
// runs afterwards, as when the machine stops.
type machineStop struct{}

// steps are all the points of a write at which the machine can stop.
var steps = []string{"create", "write", "sync", "rename", "sync dir"}

// TestStopAtEveryStep stops the machine at every step of a push, and checks that
// the store comes up with the old set or, once the pointer is in place, the new.
func TestStopAtEveryStep(t *testing.T) {
	for _, file := range []string{setName(3), currentName} {
		for _, step := range steps {
			t.Run(file+" "+step, func(t *testing.T) {
				dir := twoSets(t)
				s := open(t, dir, Options{})
				s.fault = func(f, at string) error {
					if f == file && at == step {
						panic(machineStop{})
					}
					return nil
				}
				stopped := func() (stopped bool) {
					defer func() { stopped = recover() == machineStop{} }()
					push(t, s, "three")
					return false
				}()
				if !stopped {
					t.Fatal("the step was not reached")
				}
				s.lock.Close() // what the kernel does for a dead process

				s = open(t, dir, Options{})
				if file == currentName && step == "sync dir" {
					wantCurrent(t, s, 3, "three")
					wantHigh(t, s, 3, "three")
					wantIncidents(t, s)
				} else {
					wantCurrent(t, s, 2, "two")
					wantHigh(t, s, 2, "two") // what was never in force has used no serial up
				}
				temp, _ := filepath.Glob(filepath.Join(dir, "*"+tempSuffix))
				if len(temp) > 0 {
					t.Errorf("half-written files are left: %v", temp)
				}
				if got := s.Next(); got < 3 {
					t.Errorf("next epoch is %d, want at least 3", got)
				}
				next := push(t, s, "after")
				wantCurrent(t, s, next, "after")
			})
		}
	}
}

// TestFailureAtEveryStep makes the disk fail once at every step: the push gets
// the error, the old set stays, also after a restart, and the next push works.
func TestFailureAtEveryStep(t *testing.T) {
	errDisk := errors.New("disk full")
	for _, file := range []string{setName(3), currentName} {
		for _, step := range steps {
			t.Run(file+" "+step, func(t *testing.T) {
				dir := twoSets(t)
				s := open(t, dir, Options{})
				failed := false
				s.fault = func(f, at string) error {
					if f == file && at == step && !failed {
						failed = true
						return errDisk
					}
					return nil
				}
				err := s.Prepare(meta(3), []byte("three"))
				if err == nil {
					if err = s.Commit(3); err != nil {
						if derr := s.Discard(3); derr != nil {
							t.Errorf("Discard: %v", derr)
						}
					}
				}
				if !errors.Is(err, errDisk) {
					t.Fatalf("the push: got %v, want %v", err, errDisk)
				}
				wantCurrent(t, s, 2, "two")
				s.Close()
				s = open(t, dir, Options{})
				wantCurrent(t, s, 2, "two")
				wantHigh(t, s, 2, "two")
				wantIncidents(t, s)
				if next := push(t, s, "four"); next < 3 {
					t.Errorf("epoch after a failed push is %d, want at least 3", next)
				}
			})
		}
	}
}

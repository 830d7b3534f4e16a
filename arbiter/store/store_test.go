// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// open opens a store that the test closes.
func open(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "rules") }

// push prepares and commits one set, and returns its epoch.
func push(t *testing.T, s *Store, text string) uint64 {
	t.Helper()
	m := meta(s.Next())
	if err := s.Prepare(m, []byte(text)); err != nil {
		t.Fatalf("Prepare: %v", err)
	}
	if err := s.Commit(m.Epoch); err != nil {
		t.Fatalf("Commit: %v", err)
	}
	return m.Epoch
}

func meta(epoch uint64) Meta {
	return Meta{Epoch: epoch, Fingerprint: 1<<63 + epoch, PushedAt: time.Unix(1_800_000_000, 5).UTC(), UID: 1000,
		Reason: "line one\nline two", Name: "a.yaml", Rules: 3, KeyID: "00FF", Serial: 10 * epoch, Signature: []byte("signed\n\xff\x00")}
}

// wantHigh checks the highest serial: that of an epoch of push.
func wantHigh(t *testing.T, s *Store, epoch uint64, text string) {
	t.Helper()
	want := High{10 * epoch, fmt.Sprintf("%x", sha256.Sum256([]byte(text)))}
	if got := s.High(); got != want || !got.IsOf([]byte(text)) || got.IsOf([]byte(text+"x")) {
		t.Fatalf("the highest serial is %+v, want %+v\nincidents: %v", got, want, s.Incidents())
	}
}

// wantCurrent checks what is in force, text and all; 0 for nothing.
func wantCurrent(t *testing.T, s *Store, epoch uint64, text string) {
	t.Helper()
	m, ok := s.Current()
	if ok != (epoch != 0) || m.Epoch != epoch {
		t.Fatalf("current is epoch %d (%v), want %d\nincidents: %v", m.Epoch, ok, epoch, s.Incidents())
	}
	if !ok {
		return
	}
	got, source, err := s.Load(epoch)
	if err != nil || string(source) != text {
		t.Fatalf("epoch %d holds %q (%v), want %q", epoch, source, err, text)
	}
	want := meta(epoch)
	want.Size = len(text)
	want.High = High{}.raisedBy(want.Serial, []byte(text))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("meta of epoch %d (-want +got):\n%s", epoch, diff)
	}
}

func wantIncidents(t *testing.T, s *Store, parts ...string) {
	t.Helper()
	got := s.Incidents()
	if len(got) != len(parts) {
		t.Fatalf("got %d incidents, want %d\n%v", len(got), len(parts), got)
	}
	for i, p := range parts {
		if !strings.Contains(got[i].String(), p) {
			t.Errorf("incident %d is %q, want one with %q", i, got[i], p)
		}
		if to := got[i].MovedTo; to != "" {
			if _, err := os.Lstat(to); err != nil {
				t.Errorf("incident %d: set aside: %v", i, err)
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	wantCurrent(t, s, 0, "")
	wantIncidents(t, s)
	for i := range 3 {
		push(t, s, fmt.Sprint("text ", i))
	}
	s.Close()

	s = open(t, dir, Options{})
	wantIncidents(t, s)
	wantCurrent(t, s, 3, "text 2")
	if _, source, err := s.Load(1); err != nil || string(source) != "text 0" {
		t.Errorf("epoch 1 holds %q (%v), want %q", source, err, "text 0")
	}
	if got := s.Next(); got != 4 {
		t.Errorf("next epoch is %d, want 4", got)
	}
	var epochs []uint64
	for _, m := range s.History(2) {
		epochs = append(epochs, m.Epoch)
	}
	if diff := cmp.Diff([]uint64{3, 2}, epochs); diff != "" {
		t.Errorf("history of 2 (-want +got):\n%s", diff)
	}
}

func TestPreparedIsInvisibleUntilCommitted(t *testing.T) {
	s := open(t, newDir(t), Options{})
	push(t, s, "one")
	if err := s.Prepare(meta(2), []byte("two")); err != nil {
		t.Fatal(err)
	}
	wantCurrent(t, s, 1, "one")
	if n := len(s.History(0)); n != 1 {
		t.Errorf("history has %d entries, want 1", n)
	}
	if _, _, err := s.Load(2); !errors.Is(err, ErrNotFound) {
		t.Errorf("loading the prepared set: got %v, want %v", err, ErrNotFound)
	}
	if err := s.Prepare(meta(3), nil); err == nil {
		t.Error("a second set was prepared")
	}
	if err := s.Commit(1); err == nil {
		t.Error("a set that is not prepared was committed")
	}
	if err := s.Commit(2); err != nil {
		t.Fatal(err)
	}
	wantCurrent(t, s, 2, "two")
}

func TestEpochsNeverComeBack(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	push(t, s, "one")
	if err := s.Prepare(meta(2), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if err := s.Discard(2); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, setName(2))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the discarded file: got %v, want it gone", err)
	}
	s.Close()
	s = open(t, dir, Options{})
	wantIncidents(t, s)
	if got := s.Next(); got != 3 {
		t.Errorf("next epoch after a discarded one is %d, want 3", got)
	}
	push(t, s, "three")
	s.Close()

	// Everything damaged: the numbers are remembered by the names set aside.
	for _, name := range []string{setName(1), setName(3), currentName} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir, Options{})
	wantCurrent(t, s, 0, "")
	if got := s.Next(); got != 4 {
		t.Errorf("next epoch after total loss is %d, want 4", got)
	}
	s.Close()
	os.Remove(filepath.Join(dir, currentName))
	s = open(t, dir, Options{})
	if got := s.Next(); got != 4 {
		t.Errorf("next epoch without the pointer is %d, want 4", got)
	}
}

func TestKeepsTheNewest(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{Keep: 2})
	for i := range 5 {
		push(t, s, fmt.Sprint(i))
	}
	if n := len(s.History(0)); n != 2 {
		t.Errorf("%d sets are kept, want 2", n)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"+rulesSuffix))
	want := []string{filepath.Join(dir, setName(4)), filepath.Join(dir, setName(5))}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	wantCurrent(t, s, 5, "4")
}

func TestKeepsSoManyBytes(t *testing.T) {
	s := open(t, newDir(t), Options{KeepBytes: 10})
	for _, text := range []string{"12345", "1234", "123456"} {
		push(t, s, text)
	}
	if h := s.History(0); len(h) != 2 || h[1].Epoch != 2 {
		t.Errorf("kept are %v, want the last two, of 10 bytes", h)
	}
	push(t, s, "12345678901") // too much by itself
	if h := s.History(0); len(h) != 1 || h[0].Epoch != 4 {
		t.Errorf("kept are %v, want the one in force", h)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	_, err := Open(dir, Options{})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "stop the other arbiterd") {
		t.Fatalf("second Open: got %v, want %v with what to do", err, ErrLocked)
	}
	s.Close()
	open(t, dir, Options{})
	if err := s.Prepare(meta(1), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Prepare after Close: got %v, want %v", err, ErrClosed)
	}
}

func TestUnsafeDirectoryIsRefused(t *testing.T) {
	dir := newDir(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "chmod 0700") {
		t.Errorf("Open of a directory of mode 0777: got %v, want an error that says chmod 0700", err)
	}
}

func TestDamageAfterOpenIsNoticed(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, Options{})
	push(t, s, "one")
	if err := os.WriteFile(filepath.Join(dir, setName(1)), []byte("arbiter-rules 2 sha256=00 length=0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Load(1); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "format is 2") {
		t.Errorf("Load: got %v, want %v about the format", err, ErrCorrupt)
	}
}

// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/arbiter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbered returns sample with another sequence number.
func numbered(seq uint64) *arbiter.Event {
	e := sample()
	e.Seq = seq
	return &e
}

func readLines(t *testing.T, path string) []string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(string(b), "\n")
}

func TestLogWritesAndEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	events := make(chan *arbiter.Event, 300)
	l, err := Open(Config{Path: path, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	const n = 300
	for i := range uint64(n) {
		events <- numbered(i + 1)
	}
	close(events)
	<-l.done // the end of the events ends the log
	if err := l.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	if got, want := l.Stats(), (Stats{Written: n}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	lines := readLines(t, path)
	if len(lines) != n+1 || lines[n] != "" {
		t.Fatalf("%d lines, want %d and nothing behind", len(lines), n)
	}
	for i, line := range lines[:n] {
		if want := string(AppendEvent(nil, numbered(uint64(i)+1))); line != want {
			t.Fatalf("line %d = %s, want %s", i, line, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got&^0o640 != 0 {
		t.Errorf("mode = %o, want at most 640", got)
	}
}

func TestLogCloseWritesWhatArrived(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	events := make(chan *arbiter.Event, 100)
	l, err := Open(Config{Path: path, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(100) {
		events <- numbered(i + 1)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(readLines(t, path)) - 1; got != 100 {
		t.Errorf("%d lines, want 100", got)
	}
	if err := l.Reopen(); err == nil {
		t.Error("Reopen after Close = nil, want an error")
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.jsonl")
	events := make(chan *arbiter.Event) // unbuffered: a send means the event was taken
	l, err := Open(Config{Path: path, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	events <- numbered(1)
	events <- numbered(2) // taken only when the batch with 1 was begun, perhaps with it
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	events <- numbered(3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	both := strings.Join(readLines(t, path+".1"), "") + strings.Join(readLines(t, path), "")
	var want []byte
	for i := range uint64(3) {
		want = AppendEvent(want, numbered(i+1))
	}
	if both != string(want) {
		t.Errorf("old and new file hold\n%s\nwant\n%s", both, want)
	}
	if now := strings.Join(readLines(t, path), ""); !strings.HasSuffix(now, string(AppendEvent(nil, numbered(3)))) {
		t.Errorf("new file holds %q, want event 3 at its end", now)
	}
}

func TestReopenKeepsOldFileOnError(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "verdicts.jsonl")
	events := make(chan *arbiter.Event, 1)
	l, err := Open(Config{Path: path, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Reopen = %v, want it to wrap ErrNotExist", err)
	}
	events <- numbered(1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(readLines(t, filepath.Join(dir+".away", "verdicts.jsonl"))) - 1; got != 1 {
		t.Errorf("%d lines in the old file, want 1", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	events := make(chan *arbiter.Event)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	f := func(name string, cfg Config, want string) {
		t.Helper()
		if _, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: Open = %v, want an error with %q", name, err, want)
		}
	}
	f("nothing", Config{}, "required")
	f("no such folder", Config{Path: "/nonexistent/x/y", Events: events}, "no such file")
	f("folder", Config{Path: t.TempDir(), Events: events}, "is a directory")
	f("pipe", Config{Path: fifo, Events: events}, "not a regular file")
}

// faultyFile fails or cuts its writes while limit says so.
type faultyFile struct {
	mu    sync.Mutex
	data  bytes.Buffer
	limit int // bytes that fit; below 0: all
}

func (f *faultyFile) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limit >= 0 && len(b) > f.limit {
		n, _ := f.data.Write(b[:f.limit])
		f.limit = 0
		return n, syscall.ENOSPC
	}
	return f.data.Write(b)
}

func (f *faultyFile) setLimit(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

func (f *faultyFile) Sync() error  { return nil }
func (f *faultyFile) Close() error { return nil }

// TestWriteErrors fills the disk inside a line and frees it again: losses are
// counted, reported once per change, and cost no later line.
func TestWriteErrors(t *testing.T) {
	disk := &faultyFile{limit: -1}
	var report bytes.Buffer
	events := make(chan *arbiter.Event)
	l, err := open(Config{Path: "x", Events: events, Logger: slog.New(slog.NewTextHandler(&report, nil))},
		func(string) (file, error) { return disk, nil })
	if err != nil {
		t.Fatal(err)
	}
	// settled waits until the log has counted n events.
	settled := func(n uint64) {
		for s := l.Stats(); s.Written+s.Lost < n; s = l.Stats() {
			runtime.Gosched()
		}
	}
	events <- numbered(1)
	settled(1)
	disk.setLimit(10)
	for i := range uint64(3) {
		events <- numbered(2 + i)
		settled(2 + i)
	}
	disk.setLimit(-1)
	events <- numbered(5)
	events <- numbered(6)
	settled(6)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := l.Stats(), (Stats{Written: 3, Lost: 3}); got != want {
		t.Errorf("Stats = %+v, want %+v", got, want)
	}
	line := func(n uint64) string { return string(AppendEvent(nil, numbered(n))) }
	want := line(1) + line(2)[:10] + "\n" + line(5) + line(6)
	if got := disk.data.String(); got != want {
		t.Errorf("file holds\n%s\nwant\n%s", got, want)
	}
	if got := strings.Count(report.String(), "lines are lost"); got != 1 {
		t.Errorf("failure reported %d times, want once:\n%s", got, &report)
	}
	if got := strings.Count(report.String(), "log works again"); got != 1 {
		t.Errorf("recovery reported %d times, want once:\n%s", got, &report)
	}
}

func TestDroppedReportedOncePerChange(t *testing.T) {
	var report bytes.Buffer
	var dropped uint64
	l := &Log{cfg: Config{Path: "x", Dropped: func() uint64 { return dropped }, Logger: slog.New(slog.NewTextHandler(&report, nil))}}
	for _, dropped = range []uint64{0, 0, 5, 6, 7, 7, 7, 9} {
		l.noticeDropped()
	}
	if got := strings.Count(report.String(), "cannot keep up"); got != 2 {
		t.Errorf("drops reported %d times, want 2:\n%s", got, &report)
	}
	if got := strings.Count(report.String(), "keeps up again"); got != 1 {
		t.Errorf("their end reported %d times, want once:\n%s", got, &report)
	}
}

// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/valyala/bytebufferpool"

	"github.com/arbiterd/arbiter/arbiter"
)

// batchBytes bounds one write: what is waiting goes out together up to here.
const batchBytes = 64 << 10

// Config configures a Log. Path and Events are required.
type Config struct {
	// Path of the log file: created with mode 0640, appended to when it exists.
	// It must be a regular file, because a pipe could make the writer wait.
	Path string
	// Events is what to write, usually Subscription.C. The log never closes it;
	// when it is closed the log ends by itself.
	Events <-chan *arbiter.Event
	// Dropped returns how many events were lost before they reached Events,
	// usually Subscription.Dropped. nil means none ever.
	Dropped func() uint64
	// Logger is told when writing begins to fail and when it works again, and
	// the same for dropped events: one line per change. nil discards.
	Logger *slog.Logger
}

// Stats counts events since Open. Written + Lost is what the log received.
type Stats struct {
	Written uint64 // lines in the file
	Lost    uint64 // lines that could not be written
	Dropped uint64 // events lost before they reached the log
}

// file is what the log needs of an os.File.
type file interface {
	io.WriteCloser
	Sync() error
}

// Log writes events to a file, in its own goroutine. All methods may be called
// concurrently, and none of them makes an event's sender wait. A write that the
// system cuts short (a full disk) can leave one incomplete line; the next line
// begins on a fresh one.
type Log struct {
	cfg              Config
	openFile         func(path string) (file, error)
	written, lost    atomic.Uint64
	stop, done       chan struct{}
	stopOnce         sync.Once
	failing, falling bool   // writes fail; events are being dropped. Writer only
	seenDropped      uint64 // Writer only

	mu   sync.Mutex // guards out and torn; held during a write
	out  file
	torn bool // the last write ended inside a line
}

// Open opens the file and starts writing. The error wraps that of the system,
// or says that the path is not a regular file.
func Open(cfg Config) (*Log, error) { return open(cfg, openAppend) }

func open(cfg Config, openFile func(string) (file, error)) (*Log, error) {
	if cfg.Path == "" || cfg.Events == nil {
		return nil, errors.New("opening the verdict log: Path and Events are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Dropped == nil {
		cfg.Dropped = func() uint64 { return 0 }
	}
	out, err := openFile(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("opening the verdict log: %w", err)
	}
	l := &Log{cfg: cfg, openFile: openFile, out: out, stop: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l, nil
}

// openAppend opens a regular file for appending. Without O_NONBLOCK the open of
// a pipe that nobody reads would wait.
func openAppend(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; name one", path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Reopen opens the path again, for log rotation: what was moved away is closed
// after the new file is open. On an error the old file stays in use.
func (l *Log) Reopen() error {
	next, err := l.openFile(l.cfg.Path)
	if err != nil {
		return fmt.Errorf("reopening the verdict log: %w; the old file stays in use", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return errors.Join(next.Close(), errors.New("reopening the verdict log: it is closed"))
	}
	old := l.out
	l.out, l.torn = next, false
	if err := old.Close(); err != nil {
		return fmt.Errorf("closing the rotated verdict log: %w", err)
	}
	return nil
}

// Stats returns the counters.
func (l *Log) Stats() Stats {
	return Stats{Written: l.written.Load(), Lost: l.lost.Load(), Dropped: l.cfg.Dropped()}
}

// Close writes what has already arrived, syncs and closes the file, and waits
// for the goroutine. Later calls do nothing and return nil.
func (l *Log) Close() error {
	l.stopOnce.Do(func() { close(l.stop) })
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.out == nil {
		return nil
	}
	err := errors.Join(l.out.Sync(), l.out.Close())
	l.out = nil
	if err != nil {
		return fmt.Errorf("closing the verdict log: %w", err)
	}
	return nil
}

// run writes batches until it is stopped or the events end.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case e, ok := <-l.cfg.Events:
			if !ok {
				return
			}
			if _, more := l.batch(e); !more {
				return
			}
		case <-l.stop:
			l.finish()
			return
		}
	}
}

// finish writes what had arrived when the log was stopped; a sender that goes
// on cannot keep it here.
func (l *Log) finish() {
	for waiting := uint64(len(l.cfg.Events)); waiting > 0; {
		e, ok := <-l.cfg.Events
		if !ok {
			return
		}
		lines, more := l.batch(e)
		if !more {
			return
		}
		waiting -= min(lines, waiting)
	}
}

// batch writes first and what waits behind it; more is false when the events
// have ended.
func (l *Log) batch(first *arbiter.Event) (lines uint64, more bool) {
	buf := bytebufferpool.Get()
	defer bytebufferpool.Put(buf)
	buf.B = AppendEvent(buf.B, first)
	lines, more = 1, true
	for full := false; !full && len(buf.B) < batchBytes; {
		select {
		case e, ok := <-l.cfg.Events:
			if !ok {
				more, full = false, true
				break
			}
			buf.B = AppendEvent(buf.B, e)
			lines++
		default:
			full = true
		}
	}
	l.write(buf.B, lines)
	l.noticeDropped()
	return lines, more
}

// write appends whole lines. A batch that is cut short counts as lost from the
// first incomplete line on, and the next batch begins on a fresh line.
func (l *Log) write(b []byte, lines uint64) {
	l.mu.Lock()
	if l.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err := l.out.Write(b)
	whole := lines
	if err != nil {
		whole = completeLines(b[:n], l.torn)
		l.torn = n > 0 && b[n-1] != '\n' || n == 0 && l.torn
	} else {
		l.torn = false
	}
	l.mu.Unlock()

	l.written.Add(whole)
	l.lost.Add(lines - whole)
	switch {
	case err != nil && !l.failing:
		l.cfg.Logger.Error("writing the verdict log fails; verdicts go on, lines are lost until it works again",
			"path", l.cfg.Path, "error", err)
	case err == nil && l.failing:
		l.cfg.Logger.Warn("writing the verdict log works again", "path", l.cfg.Path, "lost", l.lost.Load())
	}
	l.failing = err != nil
}

// completeLines counts the lines in what was written; the first newline only
// ends an older, torn one.
func completeLines(b []byte, torn bool) uint64 {
	var n uint64
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	if torn && n > 0 {
		n--
	}
	return n
}

// noticeDropped reports when events begin to be dropped and when that ends.
func (l *Log) noticeDropped() {
	dropped := l.cfg.Dropped()
	falling := dropped > l.seenDropped
	switch {
	case falling && !l.falling:
		l.cfg.Logger.Warn("the verdict log cannot keep up; events are dropped", "path", l.cfg.Path, "dropped", dropped)
	case !falling && l.falling:
		l.cfg.Logger.Info("the verdict log keeps up again", "path", l.cfg.Path, "dropped", dropped)
	}
	l.falling, l.seenDropped = falling, dropped
}

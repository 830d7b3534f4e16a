// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// A format is told by the first bytes, read alone or with all others.
func TestFormat(t *testing.T) {
	p := pool(t, Options{})
	for content, want := range map[string]abi.Format{
		"":                   abi.FormatOther,
		"#":                  abi.FormatOther,
		"#!":                 abi.FormatScript,
		"#!/bin/sh\n":        abi.FormatScript,
		"\x7fELF":            abi.FormatELF,
		"\x7fELF\x02 and so": abi.FormatELF,
		"\x7fEL":             abi.FormatOther,
		"text":               abi.FormatOther,
	} {
		name := write(t, []byte(content))
		f := opened(t, name)
		for what, o := range map[string]Object{"by name": named(t, name), "by descriptor": {File: int(f.Fd())}} {
			if got := formatOf(t, p, o); got != want {
				t.Errorf("%q %s: got %q, want %s", content, what, got, want)
			}
		}
		if got := digestOf(t, p, named(t, name)); got != (answer{sha256.Sum256([]byte(content)), true, want}) {
			t.Errorf("%q with its digest: got the format %q, digest known: %t", content, got.format, got.known)
		}
	}
	if p.counters.bytes.Load() > 60 {
		t.Errorf("%d bytes were hashed, want those of the digests alone", p.counters.bytes.Load())
	}
}

// A format costs no more for a file of any size, and takes no place of those who hash.
func TestFormatOfLargeFile(t *testing.T) {
	p := pool(t, Options{MaxBytes: 10})
	name := write(t, append([]byte("#!"), make([]byte, 1<<20)...))
	if err := os.Truncate(name, 1<<40); err != nil {
		t.Skipf("no file is as large here: %v", err)
	}
	release := stuck(p)
	defer release()
	for range 2 * goroutines { // the lane of those who hash is full
		submit(t, p, named(t, write(t, []byte("x"))))
	}
	until(t, "nobody hashes", func() bool { return p.counters.busy.Load() == goroutines })
	if got := formatOf(t, p, named(t, name)); got != abi.FormatScript {
		t.Errorf("got %q, want script", got)
	}
	if got := p.counters.headers.Load(); got != 1 {
		t.Errorf("%d headers were read, want 1", got)
	}
}

// What has no content, is another file or cannot be read has no format, and is not other.
func TestUnknownFormat(t *testing.T) {
	p := pool(t, Options{})
	name := write(t, []byte("#!"))
	other := named(t, name)
	other.Ino++
	for _, tc := range []struct {
		name  string
		o     Object
		cause cause
	}{
		{"another file of that name", other, causeGone},
		{"a directory", Object{File: int(opened(t, t.TempDir()).Fd())}, causeNotRegular},
		{"a descriptor that nothing can be read by", Object{File: path(t, name)}, causeUnreadable},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := p.counters.unknown[tc.cause].Load()
			if got := formatOf(t, p, tc.o); got != abi.FormatUnknown {
				t.Errorf("got %s, want none", got)
			}
			if got := p.counters.unknown[tc.cause].Load() - before; got != 1 {
				t.Errorf("%d counted as %s, want 1: %v", got, causeNames[tc.cause], p.Stats())
			}
		})
	}
}

// path returns a descriptor that names the file and no more.
func path(t *testing.T, name string) int {
	t.Helper()
	fd, err := unix.Open(name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// A file that is changed while it is looked at is looked at once more, and then not known.
func TestSteady(t *testing.T) {
	name := write(t, []byte("x"))
	f := opened(t, name)
	for changes, want := range []error{nil, nil, errChanged} {
		s, err := stampOf(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		reads := 0
		of, err := steady(int(f.Fd()), s, func(size int64) error {
			if size != s.size+int64(reads) {
				t.Errorf("%d changes: read %d is told of %d bytes", changes, reads, size)
			}
			if reads++; reads <= changes {
				grow(t, name, 1)
			}
			return nil
		})
		if err != want || reads != min(changes+1, 2) {
			t.Errorf("%d changes: %v after %d reads, want %v", changes, err, reads, want)
		}
		if now, _ := stampOf(int(f.Fd())); err == nil && of != now {
			t.Errorf("%d changes: the stamp is not that of what was read", changes)
		}
	}
}

// What was another file a moment ago is looked at once more.
func TestHeaderOfChanged(t *testing.T) {
	p := pool(t, Options{})
	f := opened(t, write(t, []byte("#!")))
	for _, size := range []int64{0, 1, 3, 100} { // it had that size
		s, err := stampOf(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		s.size = size
		if got, err := p.header(int(f.Fd()), s); err != nil || got.Format != abi.FormatScript {
			t.Errorf("of %d bytes: %v, %v; want script", size, got, err)
		}
	}
	if n := p.counters.headers.Load(); n != 4 {
		t.Errorf("%d headers, want 4", n)
	}
}

// A format comes from what was remembered when the file was hashed, and is read when none was.
func TestFormatIsRemembered(t *testing.T) {
	name := write(t, []byte("\x7fELF"))
	needLasting(t, name)
	p := pool(t, Options{})
	for range 2 {
		if got := formatOf(t, p, named(t, name)); got != abi.FormatELF {
			t.Errorf("got %q, want elf", got)
		}
	}
	if n := len(p.cache.at); n != 0 || p.counters.headers.Load() != 2 {
		t.Errorf("%d files remembered, %d headers read; want none and 2", n, p.counters.headers.Load())
	}
	digestOf(t, p, named(t, name))
	if got := formatOf(t, p, named(t, name)); got != abi.FormatELF || p.counters.hits.Load() != 1 {
		t.Errorf("got %q with %d hits, want elf with 1", got, p.counters.hits.Load())
	}
	if err := os.WriteFile(name, []byte("#!!!"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := formatOf(t, p, named(t, name)); got != abi.FormatScript || p.counters.hits.Load() != 1 {
		t.Errorf("changed: got %q with %d hits, want script with 1", got, p.counters.hits.Load())
	}
}

// The files of procfs are not read, and no program.
func TestFormatOfGenerated(t *testing.T) {
	p := pool(t, Options{})
	for _, o := range []Object{named(t, "/proc/version"), {File: int(opened(t, "/proc/version").Fd())}, {File: path(t, "/proc/version")}} {
		if got := formatOf(t, p, o); got != abi.FormatOther {
			t.Errorf("got %q, want other: %v", got, p.Stats())
		}
	}
	if generated(int(opened(t, write(t, nil)).Fd())) {
		t.Error("the temporary directory is taken for such a file system")
	}
}

// A panic in who is told, and Close, are the same for those who want a format.
func TestLaneOfFormats(t *testing.T) {
	p := New(Options{})
	f := opened(t, write(t, bytes.Repeat([]byte("x"), 9)))
	if !p.Submit(Object{File: int(f.Fd())}, abi.FieldFormat, time.Minute, func(abi.Content) { panic("a bug") }) {
		t.Fatal("there is no room")
	}
	for range 2 * goroutines {
		if got := formatOf(t, p, Object{File: int(f.Fd())}); got != abi.FormatOther {
			t.Fatalf("got %q", got)
		}
	}
	until(t, "the first one is not read", func() bool { return p.counters.headers.Load() == 2*goroutines+1 })
	if n := p.counters.bytes.Load(); n != 0 {
		t.Errorf("%d bytes hashed, want none", n)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if p.Submit(Object{File: int(f.Fd())}, abi.FieldFormat, time.Minute, nil) {
		t.Error("accepted after Close")
	}
}

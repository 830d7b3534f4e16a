// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"context"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pool returns a pool to which all files are old.
func pool(t testing.TB, o Options) *Pool {
	t.Helper()
	p := New(o)
	p.now = func() time.Time { return time.Now().Add(time.Hour) }
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

// answer is what Submit comes to.
type answer struct {
	sum    [32]byte
	known  bool
	format abi.Format
}

func submit(t testing.TB, p *Pool, o Object) <-chan answer {
	t.Helper()
	return submitFor(t, p, o, abi.FieldDigest)
}

func submitFor(t testing.TB, p *Pool, o Object, want abi.Fields) <-chan answer {
	t.Helper()
	c := make(chan answer, 2) // a second answer would be a bug, not a hang
	if !p.Submit(o, want, time.Minute, func(got abi.Content) { c <- answer{got.Digest, got.Known&abi.FieldDigest != 0, got.Format} }) {
		t.Fatal("there is no room")
	}
	return c
}

func receive(t testing.TB, c <-chan answer) answer {
	t.Helper()
	select {
	case a := <-c:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
	}
	panic("unreachable")
}

func formatOf(t testing.TB, p *Pool, o Object) abi.Format {
	t.Helper()
	return receive(t, submitFor(t, p, o, abi.FieldFormat)).format
}

func digestOf(t testing.TB, p *Pool, o Object) answer { t.Helper(); return receive(t, submit(t, p, o)) }

// write makes a file and returns its name.
func write(t testing.TB, content []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, content, 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// named is the file of that name, as a request of this thread has it.
func named(t testing.TB, name string) Object {
	t.Helper()
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_INO, &st); err != nil {
		t.Fatal(err)
	}
	return Object{File: -1, Task: uint32(os.Getpid()), Path: name, Dev: packed(&st), Ino: st.Ino}
}

func opened(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestDigest(t *testing.T) {
	p := pool(t, Options{MaxBytes: 3 * piece})
	for _, size := range []int{0, 1, piece - 1, piece, piece + 1, 3 * piece} {
		content := bytes.Repeat([]byte{7}, size)
		name := write(t, content)
		want := answer{sha256.Sum256(content), true, abi.FormatOther}
		if got := digestOf(t, p, named(t, name)); got != want {
			t.Errorf("%d bytes by name: %x, %t", size, got.sum, got.known)
		}
		f := opened(t, name)
		c := submit(t, p, Object{File: int(f.Fd())})
		f.Close() // Submit has its own
		if got := receive(t, c); got != want {
			t.Errorf("%d bytes by descriptor: %x, %t", size, got.sum, got.known)
		}
	}
}

// What has no digest is not known, and counted by its cause.
func TestUnknown(t *testing.T) {
	p := pool(t, Options{MaxBytes: 10})
	name := write(t, []byte("x"))
	dir := filepath.Dir(name)
	for what, f := range map[string]func(string) error{
		"link": func(n string) error { return os.Symlink(name, n) },
		"fifo": func(n string) error { return unix.Mkfifo(n, 0o600) },
		"big":  func(n string) error { return os.WriteFile(n, make([]byte, 11), 0o600) },
		"dir":  func(n string) error { return os.MkdirAll(n+"/below", 0o700) },
	} {
		if err := f(filepath.Join(dir, what)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(dir, dir+"/dir/up"); err != nil {
		t.Fatal(err)
	}
	other := named(t, name)
	other.Ino++
	device := named(t, name)
	device.Dev++
	gone := named(t, name)
	gone.Path += "x"
	nobody := named(t, name)
	nobody.Task = 1 << 30
	byLink := named(t, name)
	byLink.Path = dir + "/dir/up/file"
	for _, tc := range []struct {
		name  string
		o     Object
		cause cause
	}{
		{"another file of that name", other, causeGone},
		{"another file system", device, causeGone},
		{"no file of that name", gone, causeGone},
		{"no such task", nobody, causeGone},
		{"a symbolic link", named(t, dir+"/link"), causeNotRegular},
		{"through a symbolic link", byLink, causeGone},
		{"a relative path", Object{File: -1, Task: uint32(os.Getpid())}, causeGone},
		{"a fifo", named(t, dir+"/fifo"), causeNotRegular},
		{"a directory", named(t, dir+"/dir"), causeNotRegular},
		{"a directory by descriptor", Object{File: int(opened(t, dir).Fd())}, causeNotRegular},
		{"a large file", named(t, dir+"/big"), causeTooBig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := p.counters.unknown[tc.cause].Load()
			if got := digestOf(t, p, tc.o); got.known {
				t.Errorf("digest %x, want none", got.sum)
			}
			if got := p.counters.unknown[tc.cause].Load() - before; got != 1 {
				t.Errorf("%d counted as %s, want 1: %v", got, causeNames[tc.cause], p.Stats())
			}
		})
	}
}

// needLasting skips the test where digests are not remembered.
func needLasting(t testing.TB, name string) {
	t.Helper()
	f := opened(t, name)
	s, err := stampOf(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if !s.lasting(int(f.Fd()), time.Now().Add(time.Hour)) {
		t.Skip("the temporary directory is on a file system whose digests are not remembered")
	}
}

func TestRemembered(t *testing.T) {
	name := write(t, []byte("one"))
	needLasting(t, name)
	p := pool(t, Options{})
	look := func(step, want string, hits uint64) {
		t.Helper()
		if got := digestOf(t, p, named(t, name)); got.sum != sha256.Sum256([]byte(want)) || !got.known {
			t.Errorf("%s: not the digest of %q", step, want)
		}
		if got := p.counters.hits.Load(); got != hits {
			t.Errorf("%s: %d hits, want %d", step, got, hits)
		}
	}
	look("first", "one", 0)
	look("again", "one", 1)
	if err := os.WriteFile(name, []byte("two"), 0o700); err != nil {
		t.Fatal(err)
	}
	look("changed", "two", 1)
	look("changed, again", "two", 2)
	if err := os.WriteFile(name+"x", []byte("six"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+"x", name); err != nil {
		t.Fatal(err)
	}
	look("replaced", "six", 2)
	p.now = time.Now
	if err := os.Chmod(name, 0o600); err != nil { // changed just now
		t.Fatal(err)
	}
	look("too new", "six", 2)
	look("too new, again", "six", 2)
}

// A write through a mapping leaves no trace once the page is dirty: nothing is remembered
// while it can happen.
func TestMappedForWriting(t *testing.T) {
	name := write(t, bytes.Repeat([]byte("a"), 4096))
	needLasting(t, name)
	p := pool(t, Options{})
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	m[0] = 'a' // dirty, and the same
	for _, c := range "bc" {
		if got := digestOf(t, p, named(t, name)); got.sum != sha256.Sum256(m) {
			t.Errorf("before %c: an old digest", c)
		}
		m[0] = byte(c)
	}
	want := sha256.Sum256(m)
	if err := unix.Munmap(m); err != nil {
		t.Fatal(err)
	}
	if got := digestOf(t, p, named(t, name)); got.sum != want || p.counters.hits.Load() != 0 {
		t.Errorf("afterwards: digest %x, want %x; %d hits, want none", got.sum, want, p.counters.hits.Load())
	}
}

// stuck takes all places for hashing, as a busy machine does, until the func is called.
func stuck(p *Pool) (release func()) {
	for range cap(p.cpus) {
		p.cpus <- struct{}{}
	}
	return func() {
		for range cap(p.cpus) {
			<-p.cpus
		}
	}
}

// until waits for something that another goroutine does.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal(what)
		}
		<-time.After(time.Millisecond)
	}
}

// A file that is changed while it is hashed is hashed once more, and then not known.
func TestChangedWhileHashed(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, name string)
		known  bool
	}{
		{"longer", func(t *testing.T, name string) { grow(t, name, 1) }, true},
		{"shorter", func(t *testing.T, name string) {
			if err := os.Truncate(name, 1); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"too long", func(t *testing.T, name string) { grow(t, name, 2*piece) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := pool(t, Options{MaxBytes: 2 * piece})
			name := write(t, make([]byte, piece+1))
			release := stuck(p)
			c := submit(t, p, named(t, name))
			until(t, "nothing is read", func() bool { return p.counters.busy.Load() == 1 })
			tc.change(t, name)
			release()
			got := receive(t, c)
			content, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if got.known != tc.known || got.known && got.sum != sha256.Sum256(content) {
				t.Errorf("known: %t, want %t; or an old digest", got.known, tc.known)
			}
			if n := len(p.cache.at); n > 1 {
				t.Errorf("%d digests remembered", n)
			}
		})
	}
}

func grow(t *testing.T, name string, n int) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
}

// Who asks for a file that is being hashed waits for that.
func TestJoined(t *testing.T) {
	name := write(t, []byte("x"))
	needLasting(t, name)
	p := pool(t, Options{})
	release := stuck(p)
	var all []<-chan answer
	for range 5 {
		all = append(all, submit(t, p, named(t, name)))
	}
	until(t, "nobody waits for the first", func() bool { return p.counters.joined.Load() == 4 })
	release()
	for i, c := range all {
		if got := receive(t, c); !got.known || got.sum != sha256.Sum256([]byte("x")) {
			t.Errorf("answer %d: %x, %t", i, got.sum, got.known)
		}
	}
	if got := p.counters.hashed.Load(); got != 1 {
		t.Errorf("hashed %d times, want once", got)
	}
}

// There is room for so many, and Close answers all of them.
func TestBounds(t *testing.T) {
	p := New(Options{})
	release := stuck(p)
	f := opened(t, write(t, []byte("x")))
	fds := openFiles(t)
	var waiting sync.WaitGroup
	accepted, most := 0, goroutines+queued
	for range most + 10 {
		waiting.Add(1)
		if !p.Submit(Object{File: int(f.Fd())}, abi.FieldDigest, time.Minute, func(abi.Content) { waiting.Done() }) {
			waiting.Done()
			until(t, "the goroutines do not start", func() bool { return p.counters.busy.Load() == goroutines })
			continue
		}
		accepted++
	}
	if accepted < queued || accepted > most {
		t.Errorf("%d accepted, want up to %d", accepted, most)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Close(ctx); err == nil || !strings.Contains(err.Error(), "readers waiting") {
		t.Errorf("closing while all are stuck: %v", err)
	}
	release()
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	waiting.Wait()
	if p.Submit(Object{File: int(f.Fd())}, abi.FieldDigest, time.Minute, nil) {
		t.Error("accepted after Close")
	}
	if got := openFiles(t); got != fds {
		t.Errorf("%d descriptors are open, %d were", got, fds)
	}
}

func openFiles(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// A panic in who is told ends nothing but that.
func TestPanic(t *testing.T) {
	p := pool(t, Options{})
	f := opened(t, write(t, []byte("x")))
	if !p.Submit(Object{File: int(f.Fd())}, abi.FieldDigest, time.Minute, func(abi.Content) { panic("a bug") }) {
		t.Fatal("there is no room")
	}
	for range 2 * goroutines {
		if got := digestOf(t, p, Object{File: int(f.Fd())}); !got.known {
			t.Fatal("not known")
		}
	}
}

// BenchmarkRemembered is what a request whose file was hashed before waits for.
func BenchmarkRemembered(b *testing.B) {
	name := write(b, []byte("x"))
	needLasting(b, name)
	for what, o := range map[string]Object{"by name": named(b, name), "by descriptor": {File: int(opened(b, name).Fd())}} {
		b.Run(what, func(b *testing.B) {
			p := pool(b, Options{})
			benchmarkSubmit(b, p, o, abi.FieldDigest)
			b.ReportMetric(float64(p.counters.hits.Load())/float64(b.N), "hits/op")
		})
	}
}

// BenchmarkHeader is what one waits for of whose file the format is wanted, and no more.
func BenchmarkHeader(b *testing.B) {
	name := write(b, []byte("x"))
	for what, o := range map[string]Object{"by name": named(b, name), "by descriptor": {File: int(opened(b, name).Fd())}} {
		b.Run(what, func(b *testing.B) { benchmarkSubmit(b, pool(b, Options{}), o, abi.FieldFormat) })
	}
}

func benchmarkSubmit(b *testing.B, p *Pool, o Object, want abi.Fields) {
	c := make(chan abi.Content, 1)
	for b.Loop() {
		p.Submit(o, want, time.Minute, func(got abi.Content) { c <- got })
		if got := <-c; got.Known&want == 0 {
			b.Fatal("it is not known")
		}
	}
}

// BenchmarkHash is the rate of one goroutine.
func BenchmarkHash(b *testing.B) {
	const size = 64 << 20
	f := opened(b, write(b, make([]byte, size)))
	p := pool(b, Options{})
	p.now = time.Now
	b.SetBytes(size)
	for b.Loop() {
		digestOf(b, p, Object{File: int(f.Fd())})
	}
}

// SPDX-License-Identifier: Apache-2.0

package content

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/kernelbridge/content/veritytest"
)

// verityOf returns what the pool says of a file; what it cannot say is "".
func verityOf(t testing.TB, p *Pool, o Object) string {
	t.Helper()
	c := make(chan abi.Content, 2)
	if !p.Submit(o, abi.FieldVerity, time.Minute, func(got abi.Content) { c <- got }) {
		t.Fatal("there is no room")
	}
	got := <-c
	if got.Known&^abi.FieldVerity != 0 || (got.Known != 0) != (got.Verity.Alg != abi.VerityUnknown) {
		t.Errorf("%v is known, and %v", got.Known.Names(), got.Verity)
	}
	return got.Verity.String()
}

// The digest is the one that follows from the content, whatever its size, and a file has none
// before it is given one, whatever is remembered of it.
func TestVerity(t *testing.T) {
	dir := t.TempDir()
	veritytest.Mount(t, dir)
	p := pool(t, Options{})
	for _, size := range []int{0, 1, 4095, 4096, 4097, 128 * 4096, 128*4096 + 1, 3 << 20} {
		for _, alg := range []veritytest.Alg{veritytest.SHA256, veritytest.SHA512} {
			content := bytes.Repeat([]byte("0123456789a"), size/11+1)[:size]
			name := filepath.Join(dir, "file")
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
			want := "none"
			for range 2 {
				f := opened(t, name)
				for what, o := range map[string]Object{"by name": named(t, name), "by descriptor": {File: int(f.Fd())}} {
					if got := verityOf(t, p, o); got != want {
						t.Errorf("%d bytes, %s: got %s, want %s", size, what, got, want)
					}
					if want == "none" {
						digestOf(t, p, o) // which is remembered
					}
				}
				if want != "none" {
					continue
				}
				if err := veritytest.Enable(name, alg); err != nil {
					t.Fatal(err)
				}
				want = veritytest.Digest(content, alg)
			}
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := p.Stats(); s["measured"] != 2*8*4 || s["headers"] != 0 {
		t.Errorf("%v, want %d measured, no header", s, 2*8*4)
	}
}

// On an overlay a file has none, whatever the one below has: the kernel does not say it there.
func TestVerityBelowOverlay(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	veritytest.Mount(t, dir+"/lower")
	content := []byte("below")
	if err := os.WriteFile(dir+"/lower/file", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := veritytest.Enable(dir+"/lower/file", veritytest.SHA256); err != nil {
		t.Fatal(err)
	}
	p := pool(t, Options{})
	inMountNamespace(t, func() error {
		if err := unix.Mount("overlay", dir+"/merged", "overlay", 0, fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", dir)); err != nil {
			return fmt.Errorf("%w: %w", errNoOverlay, err)
		}
		for name, want := range map[string]string{"/merged/file": "none", "/lower/file": veritytest.Digest(content, veritytest.SHA256)} {
			o, err := asTheKernelHasIt(dir + name)
			if err != nil {
				return err
			}
			if got := verityOf(t, p, o); got != want {
				return fmt.Errorf("%s: got %q, want %s", name, got, want)
			}
		}
		return nil
	})
}

// Nobody waits for those who hash.
func TestVerityWhileHashing(t *testing.T) {
	p := pool(t, Options{MaxBytes: 10})
	release := stuck(p)
	defer release()
	for range 2 * goroutines { // the lane of those who hash is full
		submit(t, p, named(t, write(t, []byte("x"))))
	}
	until(t, "nobody hashes", func() bool { return p.counters.busy.Load() == goroutines })
	if got := verityOf(t, p, named(t, write(t, make([]byte, 100)))); got != "none" {
		t.Errorf("got %q, want none", got)
	}
}

// What has no fs-verity is known to have none, on every file system; what is no file, or not
// there, is not known.
func TestNoVerity(t *testing.T) {
	p := pool(t, Options{})
	name := write(t, []byte("x"))
	f, version, dir := opened(t, name), opened(t, "/proc/version"), opened(t, "/")
	gone := named(t, name)
	gone.Ino++
	for what, tc := range map[string]struct {
		o    Object
		want string
	}{
		"by name":       {named(t, name), "none"},
		"by descriptor": {Object{File: int(f.Fd())}, "none"},
		"made up":       {Object{File: int(version.Fd())}, "none"},
		"a directory":   {Object{File: int(dir.Fd())}, ""},
		"another file":  {gone, ""},
	} {
		if got := verityOf(t, p, tc.o); got != tc.want {
			t.Errorf("%s: got %q, want %q", what, got, tc.want)
		}
	}
	if s := p.Stats(); s["unknown.not_regular"] != 1 || s["unknown.gone"] != 1 || s["bytes"] != 0 || s["measured"] != 3 || s["headers"] != 0 {
		t.Errorf("%v, want one not regular, one gone, no byte read", s)
	}
}

// Whom nobody checks is not believed.
func TestVerityOfWhom(t *testing.T) {
	for fs, want := range map[int64]bool{unix.EXT4_SUPER_MAGIC: true, unix.F2FS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true,
		unix.FUSE_SUPER_MAGIC: false, unix.NFS_SUPER_MAGIC: false, unix.OVERLAYFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false, 0: false} {
		if checksBlocks(fs) != want {
			t.Errorf("the file system %#x: %t, want %t", fs, !want, want)
		}
	}
}

// The kernel's answer is believed as far as it is one.
func TestVerityDigest(t *testing.T) {
	sum := [64]byte{1, 31: 2, 63: 3}
	f := func(alg, size uint16, want abi.VerityAlg) {
		t.Helper()
		d := verityDigest{alg, size, sum}
		v, err := d.verity()
		if v.Alg != want || (err == nil) != (want != abi.VerityUnknown) || err != nil && !errors.Is(err, errHash) {
			t.Errorf("hash %d of %d bytes: got %v, %v", alg, size, v, err)
		}
		if want == abi.VeritySHA256 && v.Sum != [64]byte{1, 31: 2} {
			t.Errorf("got %x, want nothing behind the digest", v.Sum)
		}
	}
	f(1, 32, abi.VeritySHA256)
	f(2, 64, abi.VeritySHA512)
	f(1, 64, abi.VerityUnknown)
	f(2, 32, abi.VerityUnknown)
	f(3, 32, abi.VerityUnknown)
	f(0, 0, abi.VerityUnknown)
	if n := reflect.TypeFor[verityDigest]().Size(); n != 4+64 {
		t.Errorf("struct fsverity_digest has %d bytes, want 68", n)
	}
}

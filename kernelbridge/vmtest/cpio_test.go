// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type cpioEntry struct {
	Name, Data string
	Mode       uint64
}

// readCPIO is a reader of its own, by the format's description, so that the writer is not checked by itself.
func readCPIO(t *testing.T, b []byte) []cpioEntry {
	t.Helper()
	var all []cpioEntry
	inos := map[uint64]bool{}
	for at := 0; ; {
		if len(b) < at+110 {
			t.Fatalf("offset %d: got the end, want a header", at)
		}
		if got := string(b[at : at+6]); got != "070701" {
			t.Fatalf("offset %d: got magic %q, want 070701", at, got)
		}
		field := func(i int) uint64 {
			v, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("offset %d: field %d: %v", at, i, err)
			}
			return v
		}
		size, nameLen := int(field(6)), int(field(11))
		nameAt := at + 110
		dataAt := (nameAt + nameLen + 3) &^ 3
		name := string(b[nameAt : nameAt+nameLen-1])
		if b[nameAt+nameLen-1] != 0 {
			t.Fatalf("offset %d: the name %q does not end with NUL", at, name)
		}
		if name == "TRAILER!!!" {
			if len(b)%512 != 0 {
				t.Errorf("length: got %d, want a multiple of 512", len(b))
			}
			return all
		}
		if inos[field(0)] {
			t.Errorf("%s: inode %d is used twice", name, field(0))
		}
		inos[field(0)] = true
		all = append(all, cpioEntry{Name: name, Mode: field(1), Data: string(b[dataAt : dataAt+size])})
		at = (dataAt + size + 3) &^ 3
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"data/a.txt": "a", "data/sub/b.txt": "bbbbb"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.txt", filepath.Join(dir, "data/link")); err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	a := NewArchive(&buf)
	for _, err := range []error{
		a.File("/init", 0o755, strings.NewReader("#!"), 2),
		a.Dir("/deep/er/est"),
		a.Dir("deep/er"),
		a.Copy("/src/x/testdata", filepath.Join(dir, "data")),
		a.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := []cpioEntry{
		{"init", "#!", 0o100755},
		{"deep", "", 0o040755}, {"deep/er", "", 0o040755}, {"deep/er/est", "", 0o040755},
		{"src", "", 0o040755}, {"src/x", "", 0o040755}, {"src/x/testdata", "", 0o040755},
		{"src/x/testdata/a.txt", "a", 0o100640},
		{"src/x/testdata/link", "a.txt", 0o120777},
		{"src/x/testdata/sub", "", 0o040755},
		{"src/x/testdata/sub/b.txt", "bbbbb", 0o100640},
	}
	if diff := cmp.Diff(want, readCPIO(t, buf.Bytes())); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestArchivePaddingOfEveryLength(t *testing.T) {
	var buf bytes.Buffer
	a := NewArchive(&buf)
	var want []cpioEntry
	for n := range 9 {
		name, data := strings.Repeat("n", n+1), strings.Repeat("d", n)
		want = append(want, cpioEntry{name, data, 0o100644})
		if err := a.File(name, 0o644, strings.NewReader(data), int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, readCPIO(t, buf.Bytes())); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestArchiveRefuses(t *testing.T) {
	f := func(name, wantError string, do func(a *Archive) error) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			err := do(NewArchive(new(bytes.Buffer)))
			if err == nil || !strings.Contains(err.Error(), wantError) {
				t.Errorf("got error %v, want one with %q", err, wantError)
			}
		})
	}
	f("the same file twice", "it is there already", func(a *Archive) error {
		if err := a.File("x", 0o644, strings.NewReader(""), 0); err != nil {
			return err
		}
		return a.File("/x", 0o644, strings.NewReader(""), 0)
	})
	f("a file of 4 GiB", "do not fit", func(a *Archive) error {
		return a.File("x", 0o644, strings.NewReader(""), 1<<32)
	})
	f("a file that shrinks", "ended after 1 of 2 bytes", func(a *Archive) error {
		return a.File("x", 0o644, strings.NewReader("1"), 2)
	})
}

// The archive is read by the tool that defines the format in practice, where there is one.
func TestArchiveIsReadByCPIO(t *testing.T) {
	if _, err := exec.LookPath("cpio"); err != nil {
		t.Skip("the program cpio is not installed")
	}
	var buf bytes.Buffer
	a := NewArchive(&buf)
	for i := range 3 {
		if err := a.File(fmt.Sprintf("d/%d", i), 0o644, strings.NewReader("text"), 4); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "cpio", "-t", "--quiet")
	cmd.Stdin = &buf
	got, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio: %v: %s", err, got)
	}
	if want := "d\nd/0\nd/1\nd/2\n"; string(got) != want {
		t.Errorf("cpio -t: got %q, want %q", got, want)
	}
}

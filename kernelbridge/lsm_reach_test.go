// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/arbiterd/arbiter/kernelbridge/abi"
)

// elfWithInterpreter is a program that asks the kernel to load another file as its
// dynamic loader, and has nothing else.
func elfWithInterpreter(t *testing.T, interp string) []byte {
	t.Helper()
	const headers = 64 + 56
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Phoff: 64, Ehsize: 64,
			Phentsize: 56, Phnum: 1},
		elf.Prog64{Type: uint32(elf.PT_INTERP), Off: headers, Filesz: uint64(len(interp) + 1), Align: 1},
		append([]byte(interp), 0),
	} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// A file is asked about as an exec also when a program outside of the tree names it as
// its dynamic loader: else any program could be run by that way.
func TestLSMElfInterpreter(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	dir := t.TempDir()
	tree := dir + "/tree"
	mustMkdir(t, tree)
	mustWrite(t, tree+"/bad", []byte("whatever"), 0o755)
	mustWrite(t, dir+"/outside", elfWithInterpreter(t, tree+"/bad"), 0o755)
	w := startWorker(t, b, map[string]unix.Errno{"exec " + tree + "/bad": unix.EXDEV})
	c := startChild(t)
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	if got := c.do("exec", dir+"/outside"); got != "EXDEV" {
		t.Errorf("a program with a refused loader: %s, want EXDEV", got)
	}
	if asked := w.take(); len(asked) != 1 || !strings.HasPrefix(asked[0], "exec "+tree+"/bad access=4 ") {
		t.Errorf("asked %q, want once about the loader", asked)
	}
}

// A file that lies too deep for a path name is not out of scope: it is asked about,
// without a path.
func TestLSMDepth(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	tree := t.TempDir()
	at, err := unix.Open(tree, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range abi.PathBytes/2 + 10 {
		if err := unix.Mkdirat(at, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		next, err := unix.Openat(at, "d", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	fd, err := unix.Openat(at, "f", unix.O_RDONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	unix.Close(at)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)

	w := startWorker(t, b, map[string]unix.Errno{"open ": unix.EXDEV}) // the path that is not known
	if err := b.Configure(Scope{Trees: []string{tree}}, policyAll([abi.EventCount]abi.Verdict{})); err != nil {
		t.Fatal(err)
	}
	b.Arm(true)
	cmd := exec.Command("/proc/self/exe", "serve")
	cmd.Env = append(os.Environ(), subjectEnv+"=1")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("read /proc/%d/fd/%d\n", os.Getpid(), fd))
	out, err := cmd.Output()
	if got := strings.TrimSpace(string(out)); err != nil || got != "EXDEV" {
		t.Errorf("open of a file %d directories deep: %q, %v; want EXDEV; asked %q", abi.PathBytes/2+10, got, err, w.take())
	}
}

// Scopes are limited by a number that is told, and a refused one changes nothing; the
// largest can follow the largest.
func TestLSMScopeSize(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	dir := t.TempDir()
	var one, other []string
	for i := range maxScope + 1 {
		one, other = append(one, fmt.Sprintf("%s/one/%d", dir, i)), append(other, fmt.Sprintf("%s/other/%d", dir, i))
	}
	mustMkdir(t, one...)
	mustMkdir(t, other...)
	mustWrite(t, one[0]+"/f", []byte("x"), 0o644)
	mustWrite(t, other[0]+"/f", []byte("x"), 0o644)
	w := startWorker(t, b, nil)
	c := startChild(t)
	configure := func(trees []string) error {
		return b.Configure(Scope{Trees: trees}, policyAll([abi.EventCount]abi.Verdict{}))
	}
	asked := func(path string) bool {
		t.Helper()
		w.take()
		if got := c.do("read", path); got != "ok" {
			t.Fatalf("open of %s: %s", path, got)
		}
		return len(w.take()) == 1
	}
	b.Arm(true)
	if err := configure(one[:maxScope]); err != nil {
		t.Fatal(err)
	}
	if err := configure(other); err == nil || !strings.Contains(err.Error(), fmt.Sprint("at most ", maxScope)) {
		t.Errorf("a scope of %d trees: %v, want an error with the limit", len(other), err)
	}
	if !asked(one[0]+"/f") || asked(other[0]+"/f") {
		t.Error("after a refused scope: want the one from before in force")
	}
	for range 3 { // back and forth: what is left of the one must not count in the other
		if err := configure(other[:maxScope]); err != nil {
			t.Fatal(err)
		}
		if asked(one[0]+"/f") || !asked(other[0]+"/f") {
			t.Error("want the second scope in force")
		}
		if err := configure(one[:maxScope]); err != nil {
			t.Fatal(err)
		}
		if !asked(one[0]+"/f") || asked(other[0]+"/f") {
			t.Error("want the first scope in force")
		}
	}
}

func TestLSMAfterClose(t *testing.T) {
	b := openLSM(t, LSMOptions{CPUs: []int{1}, Wait: MaxWait})
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	b.Arm(true)
	if err := b.Configure(Scope{}, policyAll([abi.EventCount]abi.Verdict{})); !errors.Is(err, ErrClosed) {
		t.Errorf("Configure after Close: %v, want ErrClosed", err)
	}
}

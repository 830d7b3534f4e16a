// SPDX-License-Identifier: Apache-2.0

package kernelbridge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// verb is one thing that a subject does: one system call that is asked about, and what
// has to come before and after it.
type verb func(args []string) error

// verbs are all of them; each room of the kernel has its own.
func verbs() map[string]verb {
	all := map[string]verb{}
	for _, room := range []map[string]verb{nameVerbs, mountVerbs, socketVerbs, taskVerbs, kernelVerbs, ringVerbs, unseenVerbs} {
		for name, v := range room {
			all[name] = v
		}
	}
	return all
}

// serveVerbs does what standard input says, a line for each verb, and prints the
// outcomes.
func serveVerbs() {
	all := verbs()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		f := strings.Fields(in.Text())
		v := all[f[0]]
		if v == nil {
			fmt.Println("no such verb:", f[0])
			continue
		}
		fmt.Println(outcome(v(f[1:])))
	}
}

// startVerbs starts a subject whose executable is the given copy of the test binary.
func startVerbs(t *testing.T, exe string) *child {
	t.Helper()
	cmd := exec.Command(exe, "verbs")
	// The Go runtime signals its own threads and names its mappings otherwise, which is
	// asked about too.
	cmd.Env = append(os.Environ(), subjectEnv+"=1", "GODEBUG=asyncpreemptoff=1,decoratemappings=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &child{t, cmd, in, out}
}

// copySelf makes the test binary a file of its own.
func copySelf(t *testing.T, to string) {
	t.Helper()
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(f, from); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// atoi reads a number among the arguments of a verb.
func atoi(s string) int {
	n, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		return -1
	}
	return int(n)
}

// withFile calls f with an open file.
func withFile(path string, flags int, f func(fd int) error) error {
	fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("before: opening %s: %v", path, err) // not the errno that is looked for
	}
	return errors.Join(f(fd), unix.Close(fd))
}

// sysno is the system call without the scheduler of Go: on this thread alone.
func sysno(_, _ uintptr, errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

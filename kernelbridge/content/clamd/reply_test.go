// SPDX-License-Identifier: Apache-2.0

package clamd

import (
	"errors"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	f := func(reply, want string) {
		t.Helper()
		got, err := verdict([]byte(reply))
		if err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", reply, got, err, want)
		}
	}
	f("fd[11]: OK", "")
	f("fd[0]: OK", "")
	f("fd[11]: Eicar-Test-Signature FOUND", "Eicar-Test-Signature")
	f("fd[7]: a FOUND", "a")
	// Whoever writes signatures chooses their names.
	f("fd[7]: OK FOUND", "OK")
	f("fd[7]: a: OK FOUND", "a: OK")
	f("fd[7]: FOUND FOUND", "FOUND")
	f("fd[7]: a\nfd[7]: OK\x1b[2J\xff FOUND", "a\nfd[7]: OK\x1b[2J\xff")
	f("fd[7]: Heuristics.Encrypted.Zip FOUND", "Heuristics.Encrypted.Zip")

	bad := func(reply, says string) {
		t.Helper()
		got, err := verdict([]byte(reply))
		if !errors.Is(err, errUnscanned) || got != "" || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: got %q, %v; want an error with %q", reply, got, err, says)
		}
	}
	bad("", `""`)
	bad("OK", `"OK"`)
	bad("stream: OK", "stream")
	bad("/a/b: OK", "/a/b")
	bad("fd[]: OK", "fd[]")
	bad("fd[x]: OK", "fd[x]")
	bad("fd[1: OK", "fd[1")
	bad("fd[1]:OK", "fd[1]")
	bad("fd[1]: ", "fd[1]")
	bad("fd[1]: ok", "ok")
	bad("fd[1]: OK ", "OK ")
	bad("fd[1]: OK\n", `OK\n`)
	bad("fd[1]:  FOUND", "FOUND")
	bad("fd[1]: FOUND", "FOUND")
	bad("fd[1]: Not a regular file ERROR", "Not a regular file ERROR")
	bad("No file descriptor received. ERROR", "No file descriptor")
	bad("UNKNOWN COMMAND", "UNKNOWN")
	bad("fd[1]: Heuristics.Limits.Exceeded.MaxFileSize FOUND", "limit of clamd.conf")
	bad(strings.Repeat("\x1b", maxReply), `\x1b`)
}

// Whatever comes is a verdict that names what it says, or an error that can be printed.
func FuzzReply(f *testing.F) {
	for _, s := range []string{"", "fd[11]: OK", "fd[11]: Eicar FOUND", "fd[1]: Not a regular file ERROR", "fd[1]: Heuristics.Limits.Exceeded.MaxFiles FOUND", "fd[1]: \x00 FOUND"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		name, err := verdict(reply)
		switch {
		case err != nil:
			if name != "" || !errors.Is(err, errUnscanned) || len(err.Error()) > 100+4*shown || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
				t.Errorf("%q: %q, %v", reply, name, err)
			}
		case name == "":
			if !strings.HasPrefix(string(reply), "fd[") || !strings.HasSuffix(string(reply), "]: OK") {
				t.Errorf("%q is clean", reply)
			}
		default:
			if !strings.HasSuffix(string(reply), "]: "+name+" FOUND") {
				t.Errorf("%q: found %q", reply, name)
			}
		}
	})
}

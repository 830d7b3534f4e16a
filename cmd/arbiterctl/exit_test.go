// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// TestErrorsHaveACodeAndANextStep goes through what a daemon can answer.
func TestErrorsHaveACodeAndANextStep(t *testing.T) {
	want := map[codes.Code]int{
		codes.Unavailable: exitUnreachable, codes.DeadlineExceeded: exitUnreachable,
		codes.PermissionDenied: exitPermission, codes.Unauthenticated: exitPermission,
		codes.FailedPrecondition: exitStale, codes.InvalidArgument: exitUsage,
	}
	c := &client{app: testApp(nil, io.Discard, io.Discard)}
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		exit, ok := want[code]
		if !ok {
			exit = exitFailure
		}
		f := c.rpcFailure(&cobra.Command{Use: "arbiterctl"}, "trying", status.Error(code, "the message"))
		if f.code != exit {
			t.Errorf("%v: exit code = %d, want %d", code, f.code, exit)
		}
		if f.next == "" {
			t.Errorf("%v: no next step", code)
		}
		if !strings.HasPrefix(f.Error(), "trying: ") {
			t.Errorf("%v: error = %q, want it to begin with what was tried", code, f)
		}
	}
}

func TestSocketErrors(t *testing.T) {
	f := func(errno syscall.Errno, code int, next string) {
		t.Helper()
		a := testApp(nil, io.Discard, io.Discard)
		a.socket = "/run/x.sock"
		c := &client{app: a, dialErr: &net.OpError{Op: "dial", Net: "unix", Err: errno}}
		got := c.rpcFailure(&cobra.Command{Use: "arbiterctl"}, "trying", status.Error(codes.Unavailable, "connection error"))
		if got.code != code || !strings.Contains(got.next, next) {
			t.Errorf("%v: exit code = %d, next = %q, want %d and %q", errno, got.code, got.next, code, next)
		}
		if want := "reaching the daemon at /run/x.sock: " + errno.Error(); !strings.HasPrefix(got.Error(), want) {
			t.Errorf("%v: error = %q, want %q", errno, got, want)
		}
	}
	f(syscall.ENOENT, exitUnreachable, "is arbiterd running?")
	f(syscall.ECONNREFUSED, exitUnreachable, "give --socket")
	f(syscall.EACCES, exitPermission, "socket_group")
}

// TestMessagesAreSafe sends hostile text through the one place that prints errors.
func TestMessagesAreSafe(t *testing.T) {
	var stderr bytes.Buffer
	a := testApp(nil, io.Discard, &stderr)
	if got := a.run([]string{"rules", "check", "/nonexistent/a\nnext: rm -rf /\x1b[2J\u202e\xff"}); got != exitFailure {
		t.Errorf("exit code = %d, want %d", got, exitFailure)
	}
	want := `arbiterctl: reading rules from "/nonexistent/a\nnext: rm -rf /\x1b[2J\u202e\xff": no such file or directory` + "\n" +
		"next: give a rule file that you can read; arbiterctl rules check --help\n"
	if got := stderr.String(); got != want {
		t.Errorf("stderr = %q, want %q", got, want)
	}
}

// FuzzText wants that what safe and printJSON let through prints, and that JSON
// still says the same.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a\nb\n", "\x1b[2J\\x41", "\u202e\u009b\x7f\u2028", "\U000e0041\U0010ffff", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var out bytes.Buffer
		a := testApp(nil, &out, io.Discard)
		if err := a.printJSON(map[string]string{"k": s}); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"safe": safe(s), "printJSON": out.String()} {
			for _, r := range text {
				if r != '\n' && !unicode.IsPrint(r) {
					t.Errorf("%s(%q) = %q holds %U", name, s, text, r)
				}
			}
		}
		var back map[string]string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatalf("printJSON(%q) = %q: %v", s, &out, err)
		}
		if utf8.ValidString(s) && back["k"] != s {
			t.Errorf("printJSON(%q) reads as %q", s, back["k"])
		}
		if strings.Count(safe(s), "\n") != strings.Count(s, "\n") {
			t.Errorf("safe(%q) = %q has other lines", s, safe(s))
		}
	})
}

// TestFailureWithoutError is what explain --exit-code returns.
func TestFailureWithoutError(t *testing.T) {
	f := fail(exitRefused, "", nil)
	if got := f.Error(); got != exitCodes[exitRefused] {
		t.Errorf("Error = %q, want the code's meaning", got)
	}
	if !errors.As(error(f), new(*failure)) {
		t.Error("a failure is not a failure")
	}
}

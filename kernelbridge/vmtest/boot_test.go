// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// fakeProgram puts a shell script in front of PATH under the name of a program.
func fakeProgram(t *testing.T, name, script string) {
	t.Helper()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("the program sh is not there to play " + name)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestBootTellsHowAGuestEnded(t *testing.T) {
	const start = `printf '\036N start {"Release":"6.1.0-test","CPUs":2}\n'` + "\n"
	f := func(name, script string, want error, wantStatus int, wantOut string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			fakeProgram(t, qemuProgram, script)
			var out bytes.Buffer
			m := &Machine{
				Nonce: "N", CPUs: 2, MemoryMiB: 256, Out: &out, KernelLog: filepath.Join(t.TempDir(), "log"),
				BootTimeout: time.Minute, Timeout: time.Minute,
			}
			if errors.Is(want, ErrTimeout) {
				m.Timeout = time.Millisecond
			}
			if strings.Contains(name, "hangs before") {
				m.BootTimeout = time.Millisecond
			}
			res, err := Boot(t.Context(), m)
			if !errors.Is(err, want) {
				t.Errorf("error: got %v, want %v", err, want)
			}
			if err == nil && res.Status != wantStatus {
				t.Errorf("status: got %d, want %d", res.Status, wantStatus)
			}
			if got := out.String(); got != wantOut {
				t.Errorf("output: got %q, want %q", got, wantOut)
			}
			if strings.Contains(script, start) && !errors.Is(err, ErrNotStarted) && res.Facts.Release != "6.1.0-test" {
				t.Errorf("facts: got %+v, want release 6.1.0-test", res.Facts)
			}
		})
	}
	f("a test that passes", start+`echo PASS; printf '\036N exit 0\n'; exec sleep 60`, nil, 0, "PASS\n")
	f("a test that fails", start+`printf 'FAIL\036N exit 3\n'`, nil, 3, "FAIL")
	f("a guest that dies before the test", `exit 0`, ErrNotStarted, 0, "")
	f("a qemu that refuses its arguments", `echo no such machine >&2; exit 1`, ErrNotStarted, 0, "")
	f("a guest that hangs before the test", `exec sleep 60`, ErrNotStarted, 0, "")
	f("a guest that dies within the test", start+`echo half`, ErrDied, 0, "half\n")
	f("a test that does not end", start+`exec sleep 60`, ErrTimeout, 0, "")
	f("an init that cannot start it", `printf '\036N fail loading module fuse: no\n'; exec sleep 60`, ErrGuest, 0, "")
	f("a status that is no number", start+`printf '\036N exit x\n'`, ErrGuest, 0, "")
}

func TestBootStopsWithItsContext(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	fakeProgram(t, qemuProgram, `exec sleep 60`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Boot(ctx, &Machine{Nonce: "N", Out: new(bytes.Buffer), BootTimeout: time.Minute})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// TestCount: qemu counts instructions with one thread for all CPUs alone.
func TestCount(t *testing.T) {
	for count, want := range map[bool]string{false: "-accel tcg,thread=multi", true: "-accel tcg,thread=single -icount shift=0,sleep=off"} {
		if got := strings.Join((&Machine{Count: count, QEMU: "-s -S"}).args(), " "); !strings.Contains(got, want) || strings.Contains(got, "-icount") != count || !strings.HasSuffix(got, " -s -S") {
			t.Errorf("counting %t: got %s, want %s in it, and the caller's last", count, got, want)
		}
	}
}

func TestBootWithoutQEMU(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := Boot(t.Context(), &Machine{})
	if !errors.Is(err, ErrNoQEMU) || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("got %v, want ErrNoQEMU that says what to install", err)
	}
}

// Two boots die, the third runs the test: its status counts and both deaths are told.
func TestRunBootsAgain(t *testing.T) {
	boots := filepath.Join(t.TempDir(), "boots")
	// The nonce is random; the fake finds it in the initrd that it is given, as the guest does.
	fakeProgram(t, qemuProgram, `
echo . >> `+boots+`
[ $(wc -l < `+boots+`) -ge 3 ] || exit 1
while [ "$1" != -initrd ]; do shift; done
nonce=$(grep -a -o '"Nonce":"[A-Z0-9]*"' "$2" | cut -d'"' -f4)
printf '\036%s start {"Release":"6.1.0-test"}\n' "$nonce"
printf '\036%s exit 7\n' "$nonce"
`)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := staticProgram(t)
	var stdout, stderr bytes.Buffer
	status, err := Run(t.Context(), Config{
		Image: self, Series: "6.1", Init: self, Binary: self, Dir: t.TempDir(), Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil || status != 7 {
		t.Errorf("got status %d, error %v; want 7 and none. It said:\n%s", status, err, &stderr)
	}
	if got := strings.Count(stderr.String(), "booting again"); got != 2 {
		t.Errorf("boots told as repeated: got %d, want 2. It said:\n%s", got, &stderr)
	}
}

func TestStaleBreakpoint(t *testing.T) {
	f := func(name, log string, want bool) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(path, []byte(log), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := staleBreakpoint(path); got != want {
				t.Errorf("got %t, want %t", got, want)
			}
		})
	}
	const oops = "[  196.1] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\r\n[  196.1] RIP: 0010:bpf_lsm_file_open+0x5/0x10\r\n"
	f("a call again", oops+"[  196.1] Code: 90 f3 0f 1e fa e8 <e7> b4 cb 24\r\n", true)
	f("it is there", oops+"[  196.1] Code: 90 f3 0f 1e fa cc <e7> b4 cb 24\r\n", false)
	f("no code", oops, false)
	f("something else", "[  196.1] Oops: 0002 [#1] SMP\r\n[  196.1] Code: 90 e8 <e7> b4\r\n", false)
}

// A guest that died of such a breakpoint is booted again, and its test run from the beginning.
func TestRunAgainAfterStaleBreakpoint(t *testing.T) {
	boots := filepath.Join(t.TempDir(), "boots")
	fakeProgram(t, qemuProgram, `
echo . >> `+boots+`
for a; do
	case $last in
	-initrd) nonce=$(grep -a -o '"Nonce":"[A-Z0-9]*"' "$a" | cut -d'"' -f4) ;;
	-serial) case $a in file:*) log=${a#file:} ;; esac ;;
	esac
	last=$a
done
printf '\036%s start {"Release":"6.12.0-test"}\n' "$nonce"
[ $(wc -l < `+boots+`) = 1 ] || { printf '\036%s exit 7\n' "$nonce"; exit; }
printf 'Oops: int3: 0000 [#1] SMP\nCode: fa e8 <e7> b4\n' > "$log"
`)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := staticProgram(t)
	var stdout, stderr bytes.Buffer
	status, err := Run(t.Context(), Config{
		Image: self, Series: "6.12", Init: self, Binary: self, Dir: t.TempDir(), Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil || status != 7 || !strings.Contains(stderr.String(), "a breakpoint that was gone already; booting again") {
		t.Errorf("got status %d, error %v; want 7 and none. It said:\n%s", status, err, &stderr)
	}
}

func TestRunGivesUpBooting(t *testing.T) {
	boots := filepath.Join(t.TempDir(), "boots")
	fakeProgram(t, qemuProgram, "echo . >> "+boots+"; exit 1\n")
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self := staticProgram(t)
	_, err := Run(t.Context(), Config{
		Image: self, Series: "6.1", Init: self, Binary: self, Dir: t.TempDir(), Stdout: new(bytes.Buffer), Stderr: new(bytes.Buffer),
	})
	if !errors.Is(err, ErrNotStarted) {
		t.Errorf("got %v, want ErrNotStarted", err)
	}
	if b, _ := os.ReadFile(boots); len(b)/2 != maxBoots {
		t.Errorf("boots: got %d, want %d", len(b)/2, maxBoots)
	}
}

// staticProgram is this test itself, which is static unless it is built with cgo, as with -race.
func staticProgram(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := checkStatic(self); err != nil {
		t.Skip("needs a static program: ", err)
	}
	return self
}

func TestConfigIsCheckedAsAWhole(t *testing.T) {
	_, err := Run(t.Context(), Config{
		CPUs: 65, MemoryMiB: 10, Env: []string{"X"}, Module: []string{"../x"},
		Binary: "testdata/marker.txt", Init: "testdata/marker.txt",
	})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"-smp 65", "-mem 10", "-env X", "-module ../x", "the test:", "vmrun:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, want %q in it", err, want)
		}
	}
}

func TestKernelLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	text := "[    0.1] Linux\r\n[    0.2] WARNING: CPU: 1 PID: 1 at x.c:1\r\n[    0.3] last\r\n"
	if err := os.WriteFile(log, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := kernelLogTail(log, 1), "[    0.3] last"; got != want {
		t.Errorf("tail: got %q, want %q", got, want)
	}
	if got := kernelComplaints(log); len(got) != 1 || got[0] != "[    0.2] WARNING: CPU: 1 PID: 1 at x.c:1" {
		t.Errorf("complaints: got %q, want the line of the warning", got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/kernelbridge/vmtest"
)

// TestMain lets the test binary be the program: bridge starts its children by the
// program's own path, and the scripts call it by its name.
func TestMain(m *testing.M) {
	self := func() { os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
	if len(os.Args) > 1 && os.Args[1] == scenarioWord {
		self()
	}
	testscript.Main(m, map[string]func(){"arbiter-bench": self})
}

// TestScripts runs the commands that read reports.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// status N ARGS... is exec arbiter-bench ARGS... with that exit status.
			"status": func(ts *testscript.TestScript, _ bool, args []string) {
				want, got := args[0], "0"
				err := ts.Exec("arbiter-bench", args[1:]...)
				if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
					got = strconv.Itoa(exit.ExitCode())
				} else if err != nil {
					ts.Fatalf("%v", err)
				}
				if got != want {
					ts.Fatalf("got exit status %s, want %s", got, want)
				}
			},
		},
	})
}

// TestSystemsScript: the script tells the guest what it does not see, by the names that the guest looks for.
func TestSystemsScript(t *testing.T) {
	text, err := os.ReadFile("../../scripts/systems")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"-env " + bench.SystemsEnv + "=1", " -count "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("scripts/systems: got no %q", want)
		}
	}
	if bench.CountedEnv != vmtest.EnvCounts {
		t.Errorf("a machine that counts says so in %s, and %s is looked at", vmtest.EnvCounts, bench.CountedEnv)
	}
}

func TestExitStatus(t *testing.T) {
	f := func(name string, want int, text string, args ...string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			var out, errw bytes.Buffer
			if got := run(t.Context(), args, strings.NewReader(""), &out, &errw); got != want {
				t.Errorf("got exit status %d, want %d; it wrote %q", got, want, errw.String())
			}
			if all := out.String() + errw.String(); !strings.Contains(all, text) {
				t.Errorf("got %q, want %q in it", all, text)
			}
		})
	}
	f("no command", exitUsage, "arbiter-bench bridge [flags]")
	f("help", exitOK, "Exit status: 0 done", "-h")
	f("help of a command", exitOK, "-samples", "bridge", "-h")
	f("unknown command", exitUsage, `unknown command "brigde"`, "brigde")
	f("unknown flag", exitUsage, "-round", "bridge", "-round", "1")
	f("an argument", exitUsage, `unexpected argument "now"`, "bridge", "now")
	f("unknown scenario", exitUsage, "choose among native-other,", "bridge", "--only", "nativ")
	f("a scenario twice", exitUsage, "named twice", "bridge", "--only", "native-same,native-same")
	f("CPUs", exitUsage, "such as 0,1", "bridge", "--cpus", "0")
	f("one CPU", exitUsage, "two different ones", "bridge", "--cpus", "0,0")
	f("rounds", exitUsage, "-3 rounds", "bridge", "--rounds", "-3")
	f("help of load", exitOK, "those of a second at most", "load", "-h")
	f("unknown rate", exitUsage, "choose among load-1000-native-other,", "load", "--only", "load-7")
	f("help of boot", exitOK, "(default 119000)", "boot", "-h")
	f("help of work", exitOK, "runs per round and program", "work", "-h")
	f("unknown program", exitUsage, "choose among work-build, work-build-fanotify, work-build-lsm,", "work", "--only", "work-make")
	f("too small a part of the work", exitUsage, "give 1 to 16", "work", "--part", "17")
	f("help of rungs", exitOK, "calls per round and scenario", "rungs", "-h")
	f("unknown rung", exitUsage, "rung-rename-unwind-same", "rungs", "--only", "rung-link")
	f("help of rules", exitOK, "make opa", "rules", "-h")
	f("unknown row", exitUsage, "choose among hit,", "rules", "--only", "hits")
	f("no OPA beside it", exitFailure, "make opa", "rules", "--opa")
	f("a row of OPA without it", exitUsage, `no scenario "opa-data"`, "rules", "--only", "opa-data")
	f("daemon without a window", exitUsage, "positive --window", "daemon", "--window", "0")
	f("no daemon beside it", exitFailure, "make build", "daemon")
	f("help of report", exitOK, "FILE.json... --out DIR", "report", "-h")
	f("help of compare", exitOK, "-threshold", "compare", "-h")
	f("help of verify", exitOK, "bench/claims.yaml", "verify", "-h")
	f("unknown flag of verify", exitUsage, "-runs", "verify", "--runs")
	f("a folder of histograms in a file", exitFailure, "making the folder of the histograms", "bridge", "--hdr", "main.go/x")
	f("a folder of profiles in a file", exitFailure, "making the folder of the profiles", "bridge", "--profile", "main.go/x")
	f("no such daemon", exitFailure, "no such file", "daemon", "--daemon", "/nowhere/d", "--config", "c")
}

// TestBridge runs the two scenarios that need the fewest privileges.
func TestBridge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	var out, errw bytes.Buffer
	code := run(t.Context(), []string{"bridge", "--quick", "--rounds", "2", "--samples", "200", "--json", file,
		"--hdr", filepath.Join(filepath.Dir(file), "hdr"), "--profile", filepath.Join(filepath.Dir(file), "profiles"), "--only", "baseline-getppid,seccomp-same"}, strings.NewReader(""), &out, &errw)
	if code != exitOK {
		t.Fatalf("got exit status %d, want 0; it wrote %q", code, errw.String())
	}
	for _, want := range []string{"getppid, no filter", "seccomp notify", "≥20x bar: cannot tell"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out.String(), want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.Report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Scenarios) != 2 || r.Scenarios[0].Samples != 400 || r.Options.Samples != 200 {
		t.Errorf("got %+v, want two scenarios and 400 samples", r.Scenarios)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 1 {
		t.Errorf("got files %v, want the report alone", left)
	}
	for _, id := range []string{"baseline-getppid", "seccomp-same"} {
		log, err := os.ReadFile(filepath.Join(filepath.Dir(file), "hdr", id+".hlog"))
		if err != nil || strings.Count(string(log), "HISTFAAA") != 2 {
			t.Errorf("%s: got %v, %q, want an interval for each of two rounds", id, err, log)
		}
		profile, err := os.ReadFile(filepath.Join(filepath.Dir(file), "profiles", id+".pprof"))
		if err != nil || !bytes.HasPrefix(profile, []byte{0x1f, 0x8b}) { // of gzip
			t.Errorf("%s: got %v, %d bytes, want a profile", id, err, len(profile))
		}
	}
}

// TestVerifyRun measures what claims need, by the commands that they name, and nothing else.
func TestVerifyRun(t *testing.T) {
	file := filepath.Join(t.TempDir(), "claims.yaml")
	text := "version: 1\nclaims:\n  - id: below\n    says: a call takes less than its notification\n    quotes: [{in: README.md, text: none}]\n    run: bridge\n" +
		"    figure: {row: baseline-getppid, of: p50}\n    at_most: 1s\n" +
		"  - id: boot\n    says: calls alone take no boot\n    quotes: [{in: README.md, text: none}]\n    run: boot\n" +
		"    figure: {row: boot-baseline-getppid, of: boot_ns}\n    at_most: 1h\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	var out, errw bytes.Buffer
	if code := run(t.Context(), []string{"verify", "--run", "--quick", "--claims", file}, strings.NewReader(""), &out, &errw); code != exitOK {
		t.Fatalf("got exit status %d, want 0; it wrote %q", code, errw.String())
	}
	if got := out.String(); !strings.Contains(got, "holds         below") || !strings.Contains(got, "holds         boot") || strings.Count(got, "(this run)") != 2 {
		t.Errorf("got %q, want that both hold in this run", got)
	}

	list, err := readClaims(file, "")
	if err != nil {
		t.Fatal(err)
	}
	gone, waits := errors.New("interrupted"), 0
	sources, err := measureFor(t.Context(), list, true, func(context.Context, io.Writer) error { waits++; return nil }, io.Discard)
	if err != nil || len(sources) != 2 || waits != 1 {
		t.Errorf("got %d reports, %v, %d waits, want a wait between two", len(sources), err, waits)
	}
	if _, err := measureFor(t.Context(), list, true, func(context.Context, io.Writer) error { return gone }, io.Discard); !errors.Is(err, gone) {
		t.Errorf("got %v, want the fault of the wait", err)
	}
}

// TestRules runs the smallest rows, each in a process of its own.
func TestRules(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	var out, errw bytes.Buffer
	code := run(t.Context(), []string{"rules", "--rounds", "2", "--samples", "100", "--json", file, "--only", "one-1000,one-10,walk-10"},
		strings.NewReader(""), &out, &errw)
	if code != exitOK {
		t.Fatalf("got exit status %d, want 0; it wrote %q", code, errw.String())
	}
	for _, want := range []string{"miss, 10 rules, one matches", "no figure of push", "one-10 p50 : walk-10 p50 = 1 : "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %q, want %q in it", out.String(), want)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r bench.RulesReport
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Scenarios) != 3 || len(r.Verdict.Bars) == 0 {
		t.Fatalf("got %+v, want three rows and the bars", r)
	}
	for _, s := range r.Scenarios {
		if s.Status != bench.Measured || s.Samples != 200 || s.Failed != 0 {
			t.Errorf("%s: got %s %q, %d samples, %d failed, want 200 as expected", s.ID, s.Status, s.Reason, s.Samples, s.Failed)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errw bytes.Buffer
	if got := run(ctx, []string{"bridge", "--only", "baseline-getppid"}, strings.NewReader(""), &out, &errw); got != exitFailure {
		t.Errorf("got exit status %d, want %d; it wrote %q", got, exitFailure, errw.String())
	}
}

func TestWriteFileFault(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	fault := errors.New("the disk is full")
	if err := writeFile(file, func(io.Writer) error { return fault }); !errors.Is(err, fault) {
		t.Errorf("got %v, want the fault", err)
	}
	if left, err := filepath.Glob(file + "*"); err != nil || len(left) != 0 {
		t.Errorf("got files %v, want none", left)
	}
}

// rulesServer is the daemon's part that push talks to.
type rulesServer struct {
	controlv1.UnimplementedRulesServiceServer
	got   *controlv1.PushRequest
	count uint32
	err   error
}

func (s *rulesServer) Push(_ context.Context, r *controlv1.PushRequest) (*controlv1.PushResponse, error) {
	s.got = r
	return &controlv1.PushResponse{RuleCount: s.count}, s.err
}

func TestPush(t *testing.T) {
	f := func(name string, count uint32, refusal error, want string) {
		t.Run(name, func(t *testing.T) {
			t.Helper()
			socket := filepath.Join(t.TempDir(), "control")
			l, err := net.Listen("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			s, g := &rulesServer{count: count, err: refusal}, grpc.NewServer()
			controlv1.RegisterRulesServiceServer(g, s)
			done := make(chan error)
			go func() { done <- g.Serve(l) }()
			err = push(t.Context(), socket, []byte("rules"))
			g.Stop()
			if serr := <-done; serr != nil {
				t.Errorf("the server: %v", serr)
			}
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v, want %q", err, want)
			}
			if s.got == nil || string(s.got.Source) != "rules" {
				t.Errorf("got %v, want the rules", s.got)
			}
		})
	}
	f("taken", bench.DaemonRules, nil, "")
	f("not all", 7, nil, "the daemon counts 7")
	f("refused", 0, status.Error(codes.PermissionDenied, "not an admin"), "not an admin")
}

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
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/bench"
)

// TestMain lets the test binary be the program: bridge starts its children by the
// program's own path.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == scenarioWord {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
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
	f("unknown program", exitUsage, "choose among work-build, work-build-fanotify,", "work", "--only", "work-make")
	f("help of rules", exitOK, "make opa", "rules", "-h")
	f("unknown row", exitUsage, "choose among hit,", "rules", "--only", "hits")
	f("no OPA beside it", exitFailure, "make opa", "rules", "--opa")
	f("a row of OPA without it", exitUsage, `no scenario "opa-data"`, "rules", "--only", "opa-data")
	f("daemon without a window", exitUsage, "positive --window", "daemon", "--window", "0")
	f("no daemon beside it", exitFailure, "make build", "daemon")
	f("no such daemon", exitFailure, "no such file", "daemon", "--daemon", "/nowhere/d", "--config", "c")
}

// TestBridge runs the two scenarios that need the fewest privileges.
func TestBridge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	var out, errw bytes.Buffer
	code := run(t.Context(), []string{"bridge", "--quick", "--rounds", "2", "--samples", "200", "--json", file,
		"--only", "baseline-getppid,seccomp-same"}, strings.NewReader(""), &out, &errw)
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/arbiterd/arbiter/kernelbridge"
)

var update = flag.Bool("update", false, "rewrite docs/cli.md and the golden parts of the scripts")

// featuresEnv makes the arbiterctl of the scripts see a made-up kernel.
const featuresEnv = "ARBITERCTL_TEST_KERNEL"

func TestMain(m *testing.M) {
	testscript.Main(leakCheck{m}, map[string]func(){"arbiterctl": func() {
		a := newApp(os.Stdin, os.Stdout, os.Stderr)
		if name := os.Getenv(featuresEnv); name != "" {
			a.probe = func() []kernelbridge.Feature { return kernels[name] }
			a.hooks = func(file string) ([]kernelbridge.HookStatus, error) { return madeUpHooks(name, file) }
		}
		os.Exit(a.run(os.Args[1:]))
	}})
}

// leakCheck is the tests, and after them a look for goroutines left behind.
type leakCheck struct{ m *testing.M }

func (l leakCheck) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// kernels are what doctor can meet.
var kernels = map[string][]kernelbridge.Feature{
	"lsm": {
		{Name: "kernel", Outcome: kernelbridge.Yes, Detail: "Linux 6.12.0, amd64, 2 CPUs"},
		{Name: kernelbridge.FeatureLSM, Outcome: kernelbridge.Yes, Detail: "a sleepable program for file_open loads"},
		{Name: kernelbridge.FeatureFanotify, Outcome: kernelbridge.Yes, Detail: "fanotify_init works"},
		{Name: "sleeping wait, kfunc", Outcome: kernelbridge.No, Detail: "not in this kernel", Hint: "boot a kernel of 6.12 or later", Optional: true},
	},
	"fanotify": {
		{Name: kernelbridge.FeatureLSM, Outcome: kernelbridge.No, Detail: "not supported\x1b[2J", Hint: "boot a kernel with CONFIG_BPF_LSM=y"},
		{Name: kernelbridge.FeatureFanotify, Outcome: kernelbridge.Yes, Detail: "fanotify_init works"},
	},
	"none": {
		{Name: kernelbridge.FeatureLSM, Outcome: kernelbridge.CannotTell, Detail: "operation not permitted", Hint: "probe as root"},
		{Name: kernelbridge.FeatureFanotify, Outcome: kernelbridge.No, Detail: "operation not permitted", Hint: "run it as root"},
	},
}

// TestScripts runs the specification of the command in testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		UpdateScripts:       *update,
		Setup: func(env *testscript.Env) error {
			env.Setenv(socketEnv, filepath.Join(env.WorkDir, "s"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else every exit takes a second
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"server": startServer,
			"record": record, "tried": record, "ask": record, "answered": record,
			"rolledback": record,
		},
	})
}

// exits CODE COMMAND... runs the command and wants that exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v: %v", args[1:], err)
	}
	if got != want {
		ts.Fatalf("%v exits with %d, want %d", args[1:], got, want)
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/arbiterd/arbiter/kernelbridge"
)

const (
	// defaultSocket is where arbiterd listens when nothing else is configured.
	defaultSocket = "/run/arbiter/arbiter.sock"
	// socketEnv overrides defaultSocket; --socket overrides both.
	socketEnv = "ARBITER_SOCKET"
	// defaultTimeout is longer than a push of the largest rule file takes.
	defaultTimeout = 30 * time.Second
)

// app is one invocation: where it reads and writes, and what the global flags say.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	probe          func() []kernelbridge.Feature
	hooks          func(btfFile string) ([]kernelbridge.HookStatus, error)

	socket  string
	timeout time.Duration
	wait    time.Duration
	onRetry func() // for tests: called when no daemon was found and another look follows
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, getenv: os.Getenv, probe: kernelbridge.Probe, hooks: kernelHooks}
}

// run parses the arguments, runs the command and returns the exit code. SIGINT
// and SIGTERM end what is running; a stream that they end has ended well.
func (a *app) run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var f *failure
	if !errors.As(err, &f) {
		// What the commands return is always a failure: this is cobra's own.
		f = usage(cmd, err)
	}
	if f.err != nil {
		fmt.Fprint(a.stderr, prefixed("arbiterctl: ", safe(f.err.Error())))
	}
	if f.next != "" {
		fmt.Fprint(a.stderr, prefixed("next: ", safe(f.next)))
	}
	return f.code
}

// root builds the command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "arbiterctl",
		Short: "Control arbiterd, which holds system calls until rules decide",
		Long: `arbiterctl controls arbiterd, which holds execs, opens and other system calls in the
kernel until rules decide: it pushes rules, follows verdicts, explains decisions, and says
what the running kernel can do.

It talks to the daemon over a unix socket; the daemon knows the caller by its uid
and gid. "rules check", "rules import", "rules packages", "rules verify", "rules sign",
"rules keygen", "explain --rules", "replay --rules", "doctor", "hooks" and "version" need
no daemon.`,
		Example: `  arbiterctl doctor
  arbiterctl rules check rules.yaml
  arbiterctl rules push rules.yaml --reason "no shells in /srv/app"
  arbiterctl events --verdict deny`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	socket := defaultSocket
	if s := a.getenv(socketEnv); s != "" {
		socket = s
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.socket, "socket", socket, "control socket of the daemon, also "+socketEnv+" in the environment")
	flags.DurationVar(&a.timeout, "timeout", defaultTimeout, "how long to wait for the daemon's answer, more than 0")
	flags.DurationVar(&a.wait, "wait", 0, "how long to try again while no daemon listens on the socket")
	root.SetFlagErrorFunc(flagError)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if a.timeout <= 0 {
			return usage(cmd, fmt.Errorf("--timeout %v: give more than 0", a.timeout))
		}
		if a.wait < 0 {
			return usage(cmd, fmt.Errorf("--wait %v: give 0 or more", a.wait))
		}
		return nil
	}
	a.group(root, a.statusCommand(), a.rulesCommand(), a.eventsCommand(), a.replayCommand(), a.whyCommand(), a.asksCommand(), a.explainCommand(), a.learnCommand(), a.doctorCommand(),
		a.mutesCommand(), a.hooksCommand(), a.maintenanceCommand(), a.versionCommand(), exitCodesTopic())
	return root
}

// group makes cmd a command that does nothing without one of its subcommands.
func (a *app) group(cmd *cobra.Command, subs ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(subs...)
	cmd.SuggestionsMinimumDistance = 2 // letters
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("unknown command %s", quoteArg(args[0]))
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
		}
		return err
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd == cmd.Root() {
			return cmd.Help()
		}
		return usage(cmd, fmt.Errorf("%s needs a subcommand", cmd.CommandPath()))
	}
	return cmd
}

// noArgs is for commands that take flags only.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no arguments; got %s", cmd.CommandPath(), quoteArg(args[0]))
}

// flagError says of a number what would do, not what parses numbers.
func flagError(_ *cobra.Command, err error) error {
	var bad *pflag.InvalidValueError
	var number *strconv.NumError
	if !errors.As(err, &bad) || !errors.As(err, &number) {
		return err
	}
	f := bad.GetFlag()
	want := "true or false"
	switch f.Value.Type() {
	case "uint32":
		want = fmt.Sprintf("a whole number from 0 to %d", math.MaxUint32)
	case "uint64":
		want = "a whole number, 0 or more"
	}
	return fmt.Errorf("--%s %s: give %s", f.Name, quoteArg(bad.GetValue()), want)
}

// outputFlag adds -o to a command and returns where its value is: text, json, or one
// of the other formats that this command has.
func outputFlag(cmd *cobra.Command, more ...string) *output {
	o := &output{value: "text", formats: append([]string{"text", "json"}, more...)}
	cmd.Flags().VarP(o, "output", "o", o.choice())
	// The error is for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.formats, cobra.ShellCompDirectiveNoFileComp))
	return o
}

// output is the value of -o.
type output struct {
	value   string
	formats []string
}

// String returns the value.
func (o *output) String() string { return o.value }

// Type names the value in help.
func (o *output) Type() string { return "format" }

// Set accepts the formats of the command.
func (o *output) Set(s string) error {
	if !slices.Contains(o.formats, s) {
		return errors.New("give " + o.choice())
	}
	o.value = s
	return nil
}

// choice lists the formats.
func (o *output) choice() string {
	last := len(o.formats) - 1
	return strings.Join(o.formats[:last], ", ") + " or " + o.formats[last]
}

func (o *output) json() bool     { return o.value == "json" }
func (o *output) markdown() bool { return o.value == "markdown" }

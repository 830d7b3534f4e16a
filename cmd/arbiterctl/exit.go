// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

// The exit codes. They are part of the interface: scripts branch on them.
const (
	exitOK = iota
	exitFailure
	exitUsage
	exitUnreachable
	exitRules
	exitStale
	exitPermission
	exitNoBackend
	exitRefused
	exitFlips
	exitBroken
	exitIncomplete
)

// exitCodes is what help and docs/cli.md say about them, by code.
var exitCodes = [...]string{
	exitOK:          "done",
	exitFailure:     "something else went wrong, the message says what",
	exitUsage:       "the command line is wrong",
	exitUnreachable: "the daemon cannot be reached, does not answer in time, or is stopping",
	exitRules:       "the rule file or its signature is wrong; nothing of it was applied. Of check --lint: it has findings. Of import and packages: not everything could be kept",
	exitStale:       "a precondition does not hold: another epoch is in force than the one expected, or this kernel cannot keep the rules",
	exitPermission:  "the daemon, or the system, does not let this user do that",
	exitNoBackend:   "doctor: no backend works here for this user",
	exitRefused:     "explain --exit-code: the request would be refused",
	exitFlips:       "replay: the rules decide something otherwise than recorded",
	exitBroken:      "replay: a decision of the very same rule set came out otherwise than recorded",
	exitIncomplete:  "learn: the proposal is there and not complete, because something was missed",
}

func exitCodesTopic() *cobra.Command {
	var b strings.Builder
	b.WriteString("arbiterctl exits with\n\n")
	for code, meaning := range exitCodes {
		fmt.Fprintf(&b, "  %d  %s\n", code, meaning)
	}
	b.WriteString("\nA message on stderr says what happened; a line that begins with \"next:\" says\nwhat to do.")
	return &cobra.Command{Use: "exit-codes", Short: "What the exit codes mean", Long: b.String()}
}

// failure is an error with its exit code and the next step.
type failure struct {
	code int
	err  error  // nil: everything was said already
	next string // what to do, one or more lines; may be empty
}

// Error returns what went wrong.
func (f *failure) Error() string {
	if f.err == nil && f.code < len(exitCodes) {
		return exitCodes[f.code]
	}
	if f.err == nil { // that of a command which learn ran
		return fmt.Sprintf("exit code %d", f.code)
	}
	return f.err.Error()
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

func fail(code int, next string, err error) *failure { return &failure{code, err, next} }

// usage is a mistake on the command line of cmd.
func usage(cmd *cobra.Command, err error) *failure {
	return fail(exitUsage, cmd.CommandPath()+" --help", err)
}

// refusedRules prints all problems of a rule file and returns the failure; outcome
// is what became of the file, empty for nothing that was to be.
func (a *app) refusedRules(ps rules.Problems, outcome, next string) *failure {
	for _, p := range ps {
		p.File = audit.Quote(p.File)
		fmt.Fprintln(a.stderr, safe(p.Error()))
	}
	return fail(exitRules, next, errors.New(plural(len(ps), "problem")+outcome))
}

// rpcFailure turns the error of a call into a failure. doing says what cmd tried.
func (c *client) rpcFailure(cmd *cobra.Command, doing string, err error) *failure {
	if err := c.dialError(); err != nil {
		return c.unreachable(err)
	}
	s := status.Convert(err)
	wrapped := fmt.Errorf("%s: %s", doing, s.Message())
	for _, d := range s.Details() {
		switch d := d.(type) {
		case *controlv1.RuleProblems:
			if s.Code() == codes.FailedPrecondition {
				f := c.app.refusedRules(problemsOf(d), "; nothing was applied",
					"take these events out, or leave them unasked and put the rest in force: "+cmd.CommandPath()+" --best-effort")
				f.code = exitStale
				return f
			}
			return c.app.refusedRules(problemsOf(d), "; nothing was applied", "repair the file and try again; arbiterctl rules check FILE checks it without the daemon")
		case *controlv1.SignatureProblem:
			return fail(exitRules, d.Next, fmt.Errorf("%s: %s; nothing was applied", doing, d.Message))
		case *controlv1.StaleEpoch:
			return fail(exitStale, fmt.Sprintf("look at what is in force: arbiterctl rules get; then try again with --expected-epoch %d", d.CurrentEpoch),
				fmt.Errorf("%s: epoch %d was expected, epoch %d is in force; nothing was changed", doing, d.ExpectedEpoch, d.CurrentEpoch))
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return fail(exitUnreachable, "arbiterctl status; if the daemon is gone, start it: "+startHint, wrapped)
	case codes.DeadlineExceeded:
		return c.app.noAnswer(doing)
	case codes.PermissionDenied, codes.Unauthenticated:
		return fail(exitPermission, "run it as root, or have an administrator let "+whoami()+" in as the message says", wrapped)
	case codes.FailedPrecondition:
		return fail(exitStale, "do as the message says, then try again; arbiterctl rules push --dry-run FILE asks the daemon and changes nothing", wrapped)
	case codes.InvalidArgument:
		return usage(cmd, wrapped)
	case codes.NotFound:
		if cmd.Name() == "why" {
			return fail(exitFailure, "arbiterctl why lists what was refused to you; the rest is for who may read events", wrapped)
		}
		if cmd.Parent() != nil && cmd.Parent().Name() == "shadow" {
			return fail(exitFailure, "arbiterctl rules shadow start FILE", wrapped)
		}
		if cmd.Name() == "answer" {
			return fail(exitFailure, "arbiterctl asks --no-follow lists the questions that are open", wrapped)
		}
		if !namesEpoch(cmd) {
			return fail(exitFailure, "arbiterctl rules push FILE puts rules in force", wrapped)
		}
		return fail(exitFailure, "arbiterctl rules history lists the epochs that are kept", wrapped)
	case codes.ResourceExhausted:
		return fail(exitFailure, "wait a moment, then try again", wrapped)
	case codes.Unimplemented:
		return fail(exitFailure, "use the arbiterctl of the daemon's version: arbiterctl status, arbiterctl version", wrapped)
	}
	return fail(exitFailure, "look at the daemon's log, and at arbiterctl status", wrapped)
}

// noAnswer is that the daemon took longer than --timeout.
func (a *app) noAnswer(doing string) *failure {
	return fail(exitUnreachable, fmt.Sprintf("give it longer than --timeout %v, or look at the daemon's log", a.timeout),
		fmt.Errorf("%s: no answer within %v", doing, a.timeout))
}

// namesEpoch reports whether cmd was about an epoch that the user gave.
func namesEpoch(cmd *cobra.Command) bool {
	_, err := strconv.ParseUint(cmd.Flags().Arg(0), 10, 64)
	return cmd.Flags().Changed("epoch") || cmd.Name() == "rollback" || cmd.Name() == "diff" && err == nil
}

func problemsOf(m *controlv1.RuleProblems) rules.Problems {
	ps := make(rules.Problems, len(m.Problems))
	for i, p := range m.Problems {
		ps[i] = rules.Problem{File: p.File, Line: int(p.Line), Column: int(p.Column), Message: p.Message, Hint: p.Hint, Rule: p.Rule}
	}
	return ps
}

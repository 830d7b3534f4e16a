// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) rulesCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "rules",
		Short: "Push, check, import, try out, sign, get, compare, list, roll back and lock rule sets",
	}, a.pushCommand(), a.confirmCommand(), a.revertCommand(), a.checkCommand(), a.importCommand(), a.packagesCommand(), a.shadowCommand(), a.canaryCommand(), a.getCommand(), a.historyCommand(), a.diffCommand(),
		a.rollbackCommand(), a.setsCommand(), a.lockCommand(), a.verifyCommand(), a.signCommand(), a.keygenCommand())
}

func (a *app) pushCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "push FILE|-",
		Short: "Put a rule file in force, all of it or nothing",
		Long: `push puts a rule file in force and returns when every worker decides by it. "-"
reads it from stdin. If anything is wrong with it, every problem is printed as
file:line:column: message; hint, and what was in force still is.

With --expected-epoch the push is refused when another epoch is in force, so two
people who push at once cannot undo each other's work unseen.

Rules about events that the daemon cannot ask about here are refused, each with its
line and the reason; it exits with 5 then. With --best-effort they are put in force
all the same: these events go on unasked, and a warning says which.

With --confirm-within the rules before are in force again after that time, unless
"arbiterctl rules confirm EPOCH" came: whoever locks himself out has only to wait. A
restart of the daemon ends it likewise, and so does "arbiterctl rules revert EPOCH".

` + canaryHelp + `

If FILE.minisig lies beside FILE it goes along: a signature of minisign, with a serial in
its trusted comment that goes up. A daemon that trusts keys verifies it, and one that
requires signatures takes no other rules; see "arbiterctl rules sign --help".`,
		Example: `  arbiterctl rules push rules.yaml --reason "no shells in /srv/app"
  arbiterctl rules push rules.yaml --confirm-within 2m
  arbiterctl rules push rules.yaml --canary 5% --canary-for 1h --max-deny-rate 0.001
  arbiterctl rules push - --expected-epoch 7 --dry-run < rules.yaml`,
		Args: a.oneArg("a rule file, or - for stdin"),
	}
	request := &controlv1.PushRequest{}
	epoch := expectedEpochFlag(cmd)
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "do everything but store and apply")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the history")
	cmd.Flags().BoolVar(&request.BestEffort, "best-effort", false, bestEffortHelp)
	confirm := confirmFlag(cmd)
	canary := canaryFlags(cmd)
	signature := signatureFlags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.ConfirmWithin = confirm()
		var err error
		if request.Canary, err = canary(); err != nil {
			return err
		}
		if request.Signature, err = signature(args[0]); err != nil {
			return err
		}
		source, name, err := a.readRules(cmd, args[0])
		if err != nil {
			return err
		}
		request.Source, request.Name, request.ExpectedEpoch = source, strings.ToValidUTF8(name, "\ufffd"), epoch()
		p, err := a.push(cmd, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(p))
		}
		if p.Canary != nil {
			return a.printCanary(p)
		}
		return a.printPushed(p, request.DryRun)
	}
	return cmd
}

// confirmFlag adds --confirm-within; the func returns nil when it was not given.
func confirmFlag(cmd *cobra.Command) func() *durationpb.Duration {
	long := cmd.Flags().Duration("confirm-within", 0, "take the rules back after this time unless they are confirmed, 1s to 24h")
	return func() *durationpb.Duration {
		if !cmd.Flags().Changed("confirm-within") {
			return nil
		}
		return durationpb.New(*long)
	}
}

// epochText names what is in force by its epoch.
func epochText(epoch uint64) string {
	if epoch == 0 {
		return "no rules are in force"
	}
	return fmt.Sprintf("epoch %d is in force", epoch)
}

func (a *app) confirmCommand() *cobra.Command {
	return a.pendingCommand("confirm", "Keep rules that were pushed with --confirm-within", func(cmd *cobra.Command, epoch uint64) (proto.Message, string, error) {
		r, err := call(a, cmd, "confirming rules", func(c *client) func(context.Context, *controlv1.ConfirmRequest, ...grpc.CallOption) (*controlv1.ConfirmResponse, error) {
			return c.rules.Confirm
		}, &controlv1.ConfirmRequest{Epoch: epoch})
		return r, fmt.Sprintf("epoch %d stays in force\n", r.GetEpoch()), err
	})
}

func (a *app) revertCommand() *cobra.Command {
	return a.pendingCommand("revert", "Take rules back that were pushed with --confirm-within, at once", func(cmd *cobra.Command, epoch uint64) (proto.Message, string, error) {
		r, err := call(a, cmd, "taking rules back", func(c *client) func(context.Context, *controlv1.RevertRequest, ...grpc.CallOption) (*controlv1.RevertResponse, error) {
			return c.rules.Revert
		}, &controlv1.RevertRequest{Epoch: epoch})
		return r, epochText(r.GetEpoch()) + " again\n", err
	})
}

// pendingCommand is what ends the time of rules that await their confirmation: do returns the
// answer, and what it means.
func (a *app) pendingCommand(name, short string, do func(*cobra.Command, uint64) (proto.Message, string, error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:     name + " EPOCH",
		Short:   short,
		Example: "  arbiterctl rules " + name + " 8",
		Args:    a.oneArg("the epoch that the push has told, see arbiterctl status"),
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		epoch, err := parseEpoch(cmd, args[0], "status")
		if err != nil {
			return err
		}
		answer, text, err := do(cmd, epoch)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(answer))
		}
		return a.print(text)
	}
	return cmd
}

func parseEpoch(cmd *cobra.Command, text, from string) (uint64, error) {
	epoch, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, usage(cmd, fmt.Errorf("%s is no epoch: give a number from arbiterctl %s", quoteArg(text), from))
	}
	return epoch, nil
}

const bestEffortHelp = "also put rules in force that are about events which are not asked about here"

func (a *app) rollbackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "rollback EPOCH",
		Short:   "Put the text of an older rule set in force, as a new epoch",
		Example: `  arbiterctl rules rollback 6 --reason "7 refused the backup"`,
		Args:    a.oneArg("an epoch, see arbiterctl rules history"),
	}
	request := &controlv1.RollbackRequest{}
	expected := expectedEpochFlag(cmd)
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the history")
	cmd.Flags().BoolVar(&request.BestEffort, "best-effort", false, bestEffortHelp)
	confirm := confirmFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		epoch, err := parseEpoch(cmd, args[0], "rules history")
		if err != nil {
			return err
		}
		request.ConfirmWithin = confirm()
		request.Epoch, request.ExpectedEpoch = epoch, expected()
		r, err := call(a, cmd, "rolling back", func(c *client) func(context.Context, *controlv1.RollbackRequest, ...grpc.CallOption) (*controlv1.RollbackResponse, error) {
			return c.rules.Rollback
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r))
		}
		return a.printPushed(r, false)
	}
	return cmd
}

// pushed is what the answers to a push and to a rollback have in common.
type pushed interface {
	GetEpoch() uint64
	GetPreviousEpoch() uint64
	GetFingerprint() uint64
	GetRuleCount() uint32
	GetUnchanged() bool
	GetDiff() *controlv1.RuleDiff
	GetWarnings() []string
	GetConfirmBy() *timestamppb.Timestamp
	GetKeyId() string
	GetSerial() uint64
}

// printPushed says what a push or a rollback did.
func (a *app) printPushed(p pushed, dryRun bool) error {
	epoch, previous := p.GetEpoch(), p.GetPreviousEpoch()
	what := fmt.Sprintf("%s, fingerprint %s", plural(p.GetRuleCount(), "rule"), fingerprint(p.GetFingerprint()))
	now, before := fmt.Sprintf("epoch %d is still in force", previous), fmt.Sprintf("before it was epoch %d", previous)
	switch {
	case previous != 0:
	case epoch == 1:
		now, before = "no rules are in force now", "it is the first"
	default: // the first were refused, or the stored ones could not be kept
		now, before = "no rules are in force now", "before it no rules were in force"
	}
	var b strings.Builder
	switch {
	case p.GetUnchanged():
		fmt.Fprintf(&b, "epoch %d is in force already: %s; nothing was done\n", epoch, what)
	case dryRun:
		fmt.Fprintf(&b, "dry run: this would be epoch %d: %s; %s\n", epoch, what, now)
	default:
		fmt.Fprintf(&b, "epoch %d is in force: %s; %s\n", epoch, what, before)
	}
	b.WriteString(differenceText(p.GetDiff()))
	if p.GetSerial() != 0 {
		fmt.Fprintf(&b, "  signed by key %s, serial %d\n", audit.Quote(p.GetKeyId()), p.GetSerial())
	}
	if by := p.GetConfirmBy(); by != nil {
		fmt.Fprintf(&b, "  until %s, then %s again; to keep it: arbiterctl rules confirm %d\n", by.AsTime().Local().Format(time.DateTime), epochText(previous), epoch)
	}
	a.warn(p.GetWarnings())
	return a.print(b.String())
}

// warn prints what a push warns of.
func (a *app) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(a.stderr, "warning: "+audit.Quote(w))
	}
}

// differenceText names the rules by which two sets differ, "" for no difference.
func differenceText(d *controlv1.RuleDiff) string {
	var b strings.Builder
	for _, d := range []struct {
		name  string
		ids   []string
		count uint32
	}{{"added", d.GetAdded(), d.GetAddedCount()}, {"removed", d.GetRemoved(), d.GetRemovedCount()}, {"changed", d.GetChanged(), d.GetChangedCount()}} {
		if len(d.ids) > 0 {
			fmt.Fprintf(&b, "  %s: %s\n", d.name, audit.Quote(firstIDs(d.ids, int(d.count))))
		}
	}
	if d.GetSettingsChanged() {
		b.WriteString("  changed: settings outside of the rules (default, deadline, on_fail, scope or events)\n")
	}
	return b.String()
}

// shownIDs is how many rules a line names; -o json names more.
const shownIDs = 10

func firstIDs(ids []string, count int) string {
	if len(ids) <= shownIDs {
		return strings.Join(ids, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(ids[:shownIDs], ", "), max(count, len(ids))-shownIDs)
}

// readRules reads a rule file or stdin, and returns the name for positions.
func (a *app) readRules(cmd *cobra.Command, arg string) (source []byte, name string, err error) {
	r, name := a.stdin, "stdin"
	if arg != "-" {
		f, err := os.Open(arg)
		if err != nil {
			return nil, "", unreadable(cmd, "rules", "rule file", arg, err)
		}
		defer f.Close()
		r, name = f, arg
	}
	// One byte too many is enough for the ordinary report that it is too large.
	source, err = io.ReadAll(io.LimitReader(r, rules.MaxFileBytes+1))
	if err != nil {
		return nil, "", unreadable(cmd, "rules", "rule file", arg, err)
	}
	return source, name, nil
}

// unreadable is the failure of a file with what, of a kind, that was named on the command
// line of cmd.
func unreadable(cmd *cobra.Command, what, kind, arg string, err error) *failure {
	return fail(exitFailure, "give a "+kind+" that you can read; "+cmd.CommandPath()+" --help",
		fmt.Errorf("reading %s from %s: %w", what, quoteArg(arg), withoutPath(err)))
}

// expectedEpochFlag adds --expected-epoch; the func returns nil when it was not given.
func expectedEpochFlag(cmd *cobra.Command) func() *uint64 {
	epoch := cmd.Flags().Uint64("expected-epoch", 0, "refuse when another epoch than this is in force")
	return func() *uint64 {
		if !cmd.Flags().Changed("expected-epoch") {
			return nil
		}
		return epoch
	}
}

// oneArg wants exactly one argument and says which.
func (a *app) oneArg(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("give %s; got %s", what, plural(len(args), "argument"))
		}
		return nil
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) shadowCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "shadow",
		Short: "Try rules out on live decisions, beside those in force",
	}, a.shadowStartCommand(), a.shadowStatusCommand(), a.shadowStopCommand(), a.shadowPromoteCommand())
}

func (a *app) shadowStartCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start FILE|-",
		Short: "Run a rule file as a candidate beside the rules in force",
		Long: `start checks a rule file as a push does and has the daemon ask it, too, about all that
the rules in force decide. Nobody is held for it and nobody gets its answers: it looks at
records, after the verdict. "rules shadow status" says what it would decide otherwise.

While it runs the kernel side asks about what it would else allow by itself, so that
nothing is decided unseen. There is one candidate at a time. It ends with "stop", with a
push of other rules, and with the daemon.

With --promote-when-clean-for it is put in force by itself once it was clean for that
long: no flip, no lost event, no decision that could not be told, and at least
--min-decisions decisions, for an idle hour proves nothing.

A signature goes along as with "arbiterctl rules push", for the promotion.`,
		Example: `  arbiterctl rules shadow start next.yaml
  arbiterctl rules shadow start next.yaml --promote-when-clean-for 10m --min-decisions 1000`,
		Args: a.oneArg("a rule file, or - for stdin"),
	}
	request := &controlv1.ShadowStartRequest{}
	epoch := expectedEpochFlag(cmd)
	f := cmd.Flags()
	long := f.Duration("promote-when-clean-for", 0, "put it in force by itself when it was clean for that long, 1s to 720h")
	f.Uint64Var(&request.MinDecisions, "min-decisions", 1, "and for that many decisions, at least 1")
	f.StringVar(&request.Reason, "reason", "", "why, for the history once it is in force")
	f.BoolVar(&request.BestEffort, "best-effort", false, bestEffortHelp)
	signature := signatureFlags(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var err error
		if request.Signature, err = signature(args[0]); err != nil {
			return err
		}
		if f.Changed("promote-when-clean-for") {
			request.PromoteWhenCleanFor = durationpb.New(*long)
		}
		if request.MinDecisions == 0 {
			return usage(cmd, fmt.Errorf("--min-decisions 0: give at least 1: without a decision nothing is proved"))
		}
		source, name, err := a.readRules(cmd, args[0])
		if err != nil {
			return err
		}
		request.Source, request.Name, request.ExpectedEpoch = source, strings.ToValidUTF8(name, "\ufffd"), epoch()
		r, err := call(a, cmd, "starting the candidate", func(c *client) func(context.Context, *controlv1.ShadowStartRequest, ...grpc.CallOption) (*controlv1.ShadowStartResponse, error) {
			return c.shadow.Start
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r))
		}
		for _, w := range r.Warnings {
			fmt.Fprintln(a.stderr, "warning: "+audit.Quote(w))
		}
		return a.print(fmt.Sprintf("%s runs beside epoch %d: arbiterctl rules shadow status\n", shadowName(r.State), r.State.GetEpoch()))
	}
	return cmd
}

func (a *app) shadowStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the candidate would decide otherwise, and what stands against it",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := call(a, cmd, "looking at the candidate", func(c *client) func(context.Context, *controlv1.ShadowGetRequest, ...grpc.CallOption) (*controlv1.ShadowGetResponse, error) {
			return c.shadow.Get
		}, &controlv1.ShadowGetRequest{})
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r.State))
		}
		return a.print(shadowText(r.State))
	}
	return cmd
}

func (a *app) shadowStopCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "End the candidate and show how it fared",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := call(a, cmd, "stopping the candidate", func(c *client) func(context.Context, *controlv1.ShadowStopRequest, ...grpc.CallOption) (*controlv1.ShadowStopResponse, error) {
			return c.shadow.Stop
		}, &controlv1.ShadowStopRequest{})
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r.State))
		}
		return a.print(shadowText(r.State))
	}
	return cmd
}

func (a *app) shadowPromoteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "promote",
		Short: "Put the candidate in force, unless something stands against it",
		Long: `promote pushes the candidate, if the epoch beside which it ran is still in force. It is
refused, with exit code 5, while the candidate would flip something, could not be told of a
decision, has lost events, was not asked at all, or has not run for as long as
--promote-when-clean-for says. With --force it is pushed all the same, so a flip that is
wanted goes with that.`,
		Example: `  arbiterctl rules shadow promote
  arbiterctl rules shadow promote --force --reason "the flips are wanted"`,
		Args: noArgs,
	}
	request := &controlv1.ShadowPromoteRequest{}
	cmd.Flags().BoolVar(&request.Force, "force", false, "whatever stands against it")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the history; else that of the start")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := call(a, cmd, "promoting the candidate", func(c *client) func(context.Context, *controlv1.ShadowPromoteRequest, ...grpc.CallOption) (*controlv1.ShadowPromoteResponse, error) {
			return c.shadow.Promote
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r))
		}
		return a.printPushed(promoted{r}, false)
	}
	return cmd
}

// promoted is a promotion as a push.
type promoted struct {
	*controlv1.ShadowPromoteResponse
}

// GetConfirmBy says that it stays.
func (promoted) GetConfirmBy() *timestamppb.Timestamp { return nil }

func shadowName(s *controlv1.ShadowState) string {
	return fmt.Sprintf("%s: %s, fingerprint %s,", audit.Quote(s.GetName()), plural(s.GetRuleCount(), "rule"), fingerprint(s.GetFingerprint()))
}

// shadowLine says in one line how the candidate fares.
func shadowLine(s *controlv1.ShadowState) string {
	c := s.GetChanges()
	state := fmt.Sprintf("runs beside epoch %d", s.GetEpoch())
	if !s.GetRunning() {
		state = "ended: " + audit.Quote(s.GetEnded())
	}
	return fmt.Sprintf("%s %s; %s, %s, %d cannot be told, %d lost", shadowName(s), state, plural(s.GetDecisions(), "decision"),
		plural(sum(c)-c["rule"], "flip"), sum(s.GetCannotTell()), s.GetLost())
}

func shadowText(s *controlv1.ShadowState) string {
	c := s.GetChanges()
	t := newTable()
	t.row("candidate", strings.TrimSuffix(shadowName(s), ","))
	state := fmt.Sprintf("runs beside epoch %d since %s, by uid %d", s.GetEpoch(), s.GetStartedAt().AsTime().Local().Format(time.DateTime), s.GetUid())
	if !s.GetRunning() {
		state = fmt.Sprintf("ended, %s: %s", s.GetEndedAt().AsTime().Local().Format(time.DateTime), audit.Quote(s.GetEnded()))
	}
	t.row("state", state)
	t.row("decisions", fmt.Sprintf("%d: %s, %d the same by another rule or audit", s.GetDecisions(), plural(sum(c)-c["rule"], "flip"), c["rule"]))
	if n := sum(s.GetCannotTell()); n > 0 {
		t.row("cannot tell", fmt.Sprintf("%d, without: %s", n, counts(s.GetCannotTell())))
	}
	t.row("no decisions", fmt.Sprintf("%s (%s); %s lost", plural(sum(s.GetFailures()), "failure verdict"), counts(s.GetFailures()), plural(s.GetLost(), "event")))
	clean := fmt.Sprintf("for %v and %s", s.GetCleanFor().AsDuration().Round(time.Second), plural(s.GetCleanDecisions(), "decision"))
	if d := s.GetPromoteWhenCleanFor(); d != nil {
		clean += fmt.Sprintf("; promoted by itself after %v and %d", d.AsDuration(), s.GetMinDecisions())
	}
	t.row("clean", clean)
	for i, b := range s.GetBlocks() {
		key := ""
		if i == 0 {
			key = "not promoted"
		}
		t.row(key, audit.Quote(b))
	}
	text := t.text()
	if len(s.GetGroups()) == 0 {
		return text
	}
	rows := changesTable()
	for _, g := range s.GetGroups() {
		rows.row(fmt.Sprint(g.GetCount()), audit.Field(g.GetKind()), outcomeOf(g.GetBefore()), outcomeOf(g.GetAfter()), audit.Field(g.GetProgram()),
			fmt.Sprintf("%d %s %s", g.GetSample().GetSeq(), audit.Field(g.GetSample().GetEvent()), audit.Field(g.GetSample().GetObject().GetPath())))
	}
	text += "\n" + rows.text()
	if n := s.GetOthers(); n > 0 {
		text += fmt.Sprintf("and %d more in other groups\n", n)
	}
	return text
}

// outcomeOf writes an outcome in one column.
func outcomeOf(o *controlv1.ShadowOutcome) string {
	verdict := audit.Field(o.GetVerdict())
	if o.GetVerdict() == rules.Deny.String() {
		verdict += ":" + rules.ErrnoName(uint16(o.GetErrno()))
	}
	return outcomeColumn(verdict, o.GetRule(), int(o.GetLine()), o.GetReason())
}

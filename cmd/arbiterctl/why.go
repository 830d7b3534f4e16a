// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/kernelbridge/abi"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why [SEQ]",
		Short: "Say why an event came out as it did, or what was refused to you",
		Long: `why takes the number of an event, as events shows it, and says what decided it, and how
each rule fared that stood before: by the rule set that was in force then, as long as it
is kept.

The explanation knows neither the subject's effective ids nor its cgroup. Where rules
look at those it can name another rule than the record; then a line says so.

Without SEQ it lists what was refused to you of late. That, and SEQ if it is one of
these, is told also to who may not read events, where the daemon's configuration has
it so (why_for_all): then with what the rule says to the refused, and whom to ask.`,
		Example: `  arbiterctl why
  arbiterctl events --verdict deny --no-follow
  arbiterctl why 1402`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("give the number of one event, see arbiterctl events, or none; got %s", plural(len(args), "argument"))
			}
			return nil
		},
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return a.whyMine(cmd, out.json())
		}
		seq, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil || seq == 0 {
			return usage(cmd, fmt.Errorf("%s is no number of an event: give one from the column SEQ of arbiterctl events", quoteArg(args[0])))
		}
		e, err := a.kept(cmd, seq)
		if f := (*failure)(nil); errors.As(err, &f) && f.code == exitPermission {
			return a.whyMineOf(cmd, seq, f, out.json())
		}
		if err != nil {
			return err
		}
		var x *controlv1.ExplainResponse
		if e.Epoch != 0 && hasObject(e) { // else no rules were asked, or cannot be asked again
			x, err = call(a, cmd, "explaining the event", func(c *client) func(context.Context, *controlv1.ExplainRequest, ...grpc.CallOption) (*controlv1.ExplainResponse, error) {
				return c.rules.Explain
			}, explainOf(e))
			if err != nil {
				return err
			}
		}
		if out.json() {
			answer := map[string]any{"event": jsonOf(e)}
			if x != nil {
				answer["explanation"] = jsonOf(x)
			}
			return a.printJSON(answer)
		}
		return a.print(whyText(e, x))
	}
	return cmd
}

// kept returns an event that the daemon still has.
func (a *app) kept(cmd *cobra.Command, seq uint64) (*controlv1.Event, error) {
	since := seq - 1
	var found *controlv1.Event
	err := a.watch(cmd, &controlv1.WatchRequest{Since: &since, NoFollow: true, IncludeAllowed: true}, func(m *controlv1.WatchResponse) (bool, error) {
		if e := m.GetEvent(); e != nil && e.Seq == seq {
			found = e
		}
		return found != nil, nil
	})
	if err == nil && found == nil {
		err = fail(exitFailure, "arbiterctl events --no-follow lists those that are kept; older ones are in the verdict log",
			fmt.Errorf("event %d is not kept: the daemon has the last 1024, and plain allowed requests only while somebody watches with --all", seq))
	}
	return found, err
}

// hasObject reports whether the record has what every rule about the event can look at.
func hasObject(e *controlv1.Event) bool {
	event, ok := abi.ParseEvent(e.Event)
	return ok && (len(e.Object.GetPath()) > 0 || !rules.NeedsObject(event))
}

// explainOf is the question that an event was about.
func explainOf(e *controlv1.Event) *controlv1.ExplainRequest {
	q := &controlv1.ExplainRequest{Event: e.Event, Path: e.Object.GetPath(), Detail: e.Detail, Args: e.Args, Exe: e.Subject.GetExe(),
		Uid: e.Subject.GetUid(), Gid: e.Subject.GetGid(), Sha256: e.Object.GetSha256(), Format: e.Object.GetFormat(), Fsverity: e.Object.GetFsverity(), Attributes: e.Object.GetAttributes(),
		Credentials: e.Subject.GetCredentials(), Scan: e.Object.GetScan(), Size: e.Object.GetSize(), ProcessTrees: e.InTrees, Epoch: &e.Epoch}
	if e.Event == "open" {
		q.Access = slices.DeleteFunc(slices.Clone(e.Access), func(name string) bool { return name == "exec" })
	}
	return q
}

func whyText(e *controlv1.Event, x *controlv1.ExplainResponse) string {
	var b strings.Builder
	b.WriteString(eventHeader() + eventLine(e) + "\n")
	verdict := audit.Quote(e.Verdict)
	if e.Verdict == "deny" {
		verdict += " " + rules.ErrnoName(uint16(e.Errno))
	}
	switch {
	case e.Reason != "":
		fmt.Fprintf(&b, "%s is a failure verdict, %s: no rule decided; docs/threat-model.md says what leads to it\n", verdict, audit.Quote(e.Reason))
	case e.Late:
		b.WriteString("the answer came when nobody waited any more: a failure verdict stands, in an event of its own\n")
	case e.Epoch == 0:
		fmt.Fprintf(&b, "%s by %s, which is no rule of a rule set\n", verdict, audit.Quote(e.Rule))
	case x == nil:
		fmt.Fprintf(&b, "%s by rule %s on line %d of epoch %d; the record has no path: ids and numbers alone decided, in the kernel, or the path did not fit\n",
			verdict, audit.Quote(e.Rule), e.Line, e.Epoch)
	case e.Asked == arbiter.Answered.String() || e.Asked == arbiter.Remembered.String():
		fmt.Fprintf(&b, "its rule asks somebody: %s, by uid %d\n", audit.Quote(e.Asked), e.AnsweredBy)
	case e.Asked != "":
		fmt.Fprintf(&b, "its rule asks somebody: %s, so its default stands\n", audit.Quote(e.Asked))
	case e.Cached:
		b.WriteString("the answer was in the workers' cache: one had decided the same by the same rules before\n")
	}
	if found := e.Object.GetSignature(); len(found) > 0 {
		fmt.Fprintf(&b, "the scanner has found: %s\n", audit.Quote(string(found)))
	}
	if e.Message != "" && (x == nil || x.Message != e.Message) {
		fmt.Fprintf(&b, "message: %s\n", audit.Quote(e.Message))
	}
	if x == nil {
		return b.String()
	}
	if e.Reason != "" {
		b.WriteString("had a worker answered in time, it would have been:\n")
	} else if x.Rule != e.Rule {
		fmt.Fprintf(&b, "the record names rule %s, the explanation leads to another one: rules look at effective ids or cgroups here, which it does not know\n", audit.Quote(e.Rule))
	}
	b.WriteString(explainText(x))
	return b.String()
}

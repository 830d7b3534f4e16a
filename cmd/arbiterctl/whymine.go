// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

// whyMine lists what was refused to the caller.
func (a *app) whyMine(cmd *cobra.Command, json bool) error {
	m, err := a.refusals(cmd, &controlv1.MineRequest{})
	switch {
	case err != nil:
		return err
	case json:
		return a.printJSON(jsonOf(m))
	case len(m.Refusals) == 0:
		return a.print("nothing that was refused to you is kept\n")
	}
	t := newTable("TIME", "SEQ", "EVENT", "VERDICT", "PATH", "MESSAGE")
	for _, r := range m.Refusals {
		message := audit.Quote(r.Message)
		if r.Message == "" {
			message = "-"
		}
		t.row(timeText(r.Time.AsTime()), fmt.Sprint(r.Seq), audit.Field(r.Event), refusalVerdict(r), audit.Field(r.Path), message)
	}
	return a.print(t.text())
}

// whyMineOf says of one event what the caller may know who was refused, and may not read
// events, which first says.
func (a *app) whyMineOf(cmd *cobra.Command, seq uint64, first *failure, json bool) error {
	m, err := a.refusals(cmd, &controlv1.MineRequest{Seq: seq})
	var f *failure
	switch {
	case errors.As(err, &f) && f.code != exitFailure || err == nil && len(m.Refusals) != 1:
		return first // it may not be asked either, or cannot
	case err != nil:
		return err
	case json:
		return a.printJSON(map[string]any{"refusal": jsonOf(m.Refusals[0])})
	}
	return a.print(refusalText(m.Refusals[0]))
}

func (a *app) refusals(cmd *cobra.Command, q *controlv1.MineRequest) (*controlv1.MineResponse, error) {
	return call(a, cmd, "asking what was refused to you", func(c *client) func(context.Context, *controlv1.MineRequest, ...grpc.CallOption) (*controlv1.MineResponse, error) {
		return c.mine.Mine
	}, q)
}

func refusalVerdict(r *controlv1.Refusal) string {
	return audit.Field(r.Verdict) + ":" + rules.ErrnoName(uint16(r.Errno))
}

func refusalText(r *controlv1.Refusal) string {
	var b strings.Builder
	what := audit.Quote(r.Event)
	if len(r.Path) > 0 {
		what += " of " + audit.Quote(r.Path)
	}
	fmt.Fprintf(&b, "%s  %s: %s\n", timeText(r.Time.AsTime()), what, refusalVerdict(r))
	if r.Undecided {
		b.WriteString("no rule decided: there was no decision in time, and this is what holds then\n")
	}
	if r.Rule != "" {
		fmt.Fprintf(&b, "rule: %s\n", audit.Quote(r.Rule))
	}
	if r.Message != "" {
		fmt.Fprintf(&b, "message: %s\n", audit.Quote(r.Message))
	}
	if r.Owner != "" {
		fmt.Fprintf(&b, "ask: %s\n", audit.Quote(r.Owner))
	} else {
		b.WriteString("ask: whoever looks after this machine, with the number of the event, " + fmt.Sprint(r.Seq) + "\n")
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func (a *app) getCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get",
		Short: "Print a rule set as it was pushed",
		Long: `get prints the text of the rule set in force, or of the one with --epoch, byte for
byte; on a terminal, what does not print is escaped. -o json adds who pushed it,
when and why.`,
		Example: `  arbiterctl rules get > rules.yaml
  arbiterctl rules get --epoch 6 | diff - rules.yaml`,
		Args: noArgs,
	}
	epoch := cmd.Flags().Uint64("epoch", 0, "of this epoch, not the one in force")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request := &controlv1.GetFileRequest{}
		if cmd.Flags().Changed("epoch") {
			request.Epoch = epoch
		}
		g, err := a.getFile(cmd, request)
		if err != nil {
			return err
		}
		switch {
		case out.json():
			return a.printJSON(jsonOf(g))
		case isTerminal(a.stdout):
			return a.print(safe(string(g.Source)))
		}
		return a.print(string(g.Source))
	}
	return cmd
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

func (a *app) historyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "history",
		Short: "List the rule sets that are kept, the newest first",
		Args:  noArgs,
	}
	request := &controlv1.HistoryRequest{}
	cmd.Flags().Uint32Var(&request.Limit, "limit", 0, "at most that many, 0 for all")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		h, err := call(a, cmd, "listing rules", func(c *client) func(context.Context, *controlv1.HistoryRequest, ...grpc.CallOption) (*controlv1.HistoryResponse, error) {
			return c.rules.History
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(h))
		}
		if len(h.Entries) == 0 {
			return a.print("no rule set was pushed yet\n")
		}
		t := newTable("EPOCH", "STATE", "PUSHED", "UID", "RULES", "BYTES", "FINGERPRINT", "NAME", "REASON")
		for _, e := range h.Entries {
			state, pushed := "-", "-"
			if e.Current {
				state = "in-force"
			}
			if e.PushedAt != nil {
				pushed = timeText(e.PushedAt.AsTime())
			}
			reason := audit.Quote(e.Reason)
			if e.RollbackOf != 0 {
				reason = fmt.Sprintf("[text of epoch %d] %s", e.RollbackOf, reason)
			}
			t.row(fmt.Sprint(e.Epoch), state, pushed, fmt.Sprint(e.Uid), fmt.Sprint(e.RuleCount), fmt.Sprint(e.Size),
				fingerprint(e.Fingerprint), audit.Field(e.Name), reason)
		}
		return a.print(t.text())
	}
	return cmd
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/user"
	"slices"

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
when and why. With --signature the signature that came with it is written to a file.`,
		Example: `  arbiterctl rules get > rules.yaml
  arbiterctl rules get --epoch 6 | diff - rules.yaml`,
		Args: noArgs,
	}
	epoch := cmd.Flags().Uint64("epoch", 0, "of this epoch, not the one in force")
	sigFile := cmd.Flags().String("signature", "", "write the signature there, for another daemon")
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
		if *sigFile != "" {
			if len(g.Signature) == 0 {
				return fail(exitFailure, "arbiterctl rules history shows which sets are signed", fmt.Errorf("getting rules: epoch %d has no signature", g.GetInfo().GetEpoch()))
			}
			if err := writeSignature(*sigFile, g.Signature); err != nil {
				return err
			}
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

// uidText adds the user's name, if this machine knows it.
func uidText(uid uint32) string {
	u, err := user.LookupId(fmt.Sprint(uid))
	if err != nil {
		return fmt.Sprint(uid)
	}
	return fmt.Sprintf("%d(%s)", uid, audit.Field(u.Username))
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
		Long: `history lists the rule sets that are kept: when each came, who pushed it and why, and
who has signed it. Names of users are those of this machine.`,
		Args: noArgs,
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
		signed := slices.ContainsFunc(h.Entries, func(e *controlv1.RuleSetInfo) bool { return e.Serial != 0 })
		head := []string{"EPOCH", "STATE", "PUSHED", "UID", "RULES", "BYTES", "FINGERPRINT"}
		if signed {
			head = append(head, "KEY", "SERIAL")
		}
		t := newTable(append(head, "NAME", "REASON")...)
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
			row := []string{fmt.Sprint(e.Epoch), state, pushed, uidText(e.Uid), fmt.Sprint(e.RuleCount), fmt.Sprint(e.Size), fingerprint(e.Fingerprint)}
			if signed {
				serial := "-"
				if e.Serial != 0 {
					serial = fmt.Sprint(e.Serial)
				}
				row = append(row, audit.Field(e.KeyId), serial)
			}
			t.row(append(row, audit.Field(e.Name), reason)...)
		}
		return a.print(t.text())
	}
	return cmd
}

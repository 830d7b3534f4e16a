// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
)

func (a *app) lockCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Keep the rules in force as they are until the daemon is restarted",
		Long: `lock makes the rules in force immutable: from now on every push, rollback and reload is
refused, whoever asks. There is no unlock. A restart of the daemon ends it, and so does
another daemon that takes over from it; both need its own uid. Rules that await their
confirmation are confirmed first.`,
		Example: `  arbiterctl rules lock --expected-epoch 8 --reason "change freeze"`,
		Args:    noArgs,
	}
	request := &controlv1.LockRequest{}
	expected := expectedEpochFlag(cmd)
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for status and the daemon's log")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		request.ExpectedEpoch = expected()
		l, err := call(a, cmd, "locking rules", func(c *client) func(context.Context, *controlv1.LockRequest, ...grpc.CallOption) (*controlv1.LockResponse, error) {
			return c.rules.Lock
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(l))
		}
		return a.print(fmt.Sprintf("epoch %d is locked %s\n", l.Epoch, lockText(l.Lock)))
	}
	return cmd
}

// lockText says since when, by whom and why.
func lockText(l *controlv1.RulesLock) string {
	text := fmt.Sprintf("since %s by uid %s, until the daemon is restarted", timeText(l.LockedAt.AsTime()), uidText(l.Uid))
	if l.Reason != "" {
		text += ": " + audit.Quote(l.Reason)
	}
	return text
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) setsCommand() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "sets",
		Short: "List, print and change the sets that rules name with @",
	}, a.setsListCommand(), a.setsGetCommand(), a.setsEditCommand("add", "Add values to a set", `  arbiterctl rules sets add office 192.0.2.0/24 --reason "the new floor"
  arbiterctl rules sets add bad-hashes --file hashes.txt`),
		a.setsEditCommand("remove", "Take values out of a set", "  arbiterctl rules sets remove office 192.0.2.0/24"),
		a.setsEditCommand("replace", "Give a set other values, all of them", "  arbiterctl rules sets replace bad-hashes --file hashes.txt"))
}

// setInfo is what list prints with -o json.
type setInfo struct {
	Name   string `json:"name"`
	Values int    `json:"values"`
	Line   int    `json:"line"`
}

func (a *app) setsListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sets of the rules in force",
		Args:  noArgs,
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		g, err := a.getFile(cmd, &controlv1.GetFileRequest{})
		if err != nil {
			return err
		}
		rs, err := rules.Load(g.Info.GetName(), g.Source, offlineOptions())
		if err != nil {
			return fail(exitFailure, "use an arbiterctl of the daemon's version", fmt.Errorf("reading the rules in force: %w", err))
		}
		infos := []setInfo{}
		for _, s := range rs.Sets() {
			infos = append(infos, setInfo{s.Name, s.Values, s.Line})
		}
		if out.json() {
			return a.printJSON(infos)
		}
		if len(infos) == 0 {
			return a.print("the rules in force have no sets\n")
		}
		t := newTable("NAME", "VALUES", "LINE")
		for _, s := range infos {
			t.row(s.Name, fmt.Sprint(s.Values), fmt.Sprint(s.Line))
		}
		return a.print(t.text())
	}
	return cmd
}

func (a *app) setsGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get NAME",
		Short: "Print the values of a set, one on each line",
		Long: `get prints the values of a set of the rules in force, one on each line. What does not
print is escaped, and so is a space; a value that is no text stands as in the rule file.`,
		Args: a.oneArg("the name of a set, see arbiterctl rules sets list"),
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		g, err := a.getFile(cmd, &controlv1.GetFileRequest{})
		if err != nil {
			return err
		}
		values, err := rules.SetValues(g.Source, args[0])
		if err != nil {
			return fail(exitFailure, "", err)
		}
		if out.json() {
			return a.printJSON(values)
		}
		var b strings.Builder
		for _, v := range values {
			b.WriteString(audit.Field(v) + "\n")
		}
		return a.print(b.String())
	}
	return cmd
}

// setsEditCommand is add, remove or replace.
func (a *app) setsEditCommand(what, short, example string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   what + " NAME [VALUE]...",
		Short: short,
		Long: what + ` changes a set of the rules in force, which makes a new epoch of them: every
other byte of the text stays as it is, comments too. The set has to be written with a line
for each value. With --file the values are read from a file, - for stdin, one on each line; empty
lines and those that begin with # are passed over.

It is a push like any other, and returns when every worker decides by it. Where rules have to
be signed it is refused: sign the whole file.`,
		Example: example,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give the name of a set, see arbiterctl rules sets list")
			}
			return nil
		},
	}
	request := &controlv1.EditSetRequest{Replace: what == "replace"}
	file := cmd.Flags().String("file", "", "read the values from this file, - for stdin")
	epoch := expectedEpochFlag(cmd)
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "do everything but store and apply")
	cmd.Flags().StringVar(&request.Reason, "reason", "", "why, for the history")
	confirm := confirmFlag(cmd)
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		request.Name, request.ExpectedEpoch, request.ConfirmWithin = args[0], epoch(), confirm()
		values, err := a.setValues(cmd, args[1:], *file)
		if err != nil {
			return err
		}
		if len(values) == 0 {
			return usage(cmd, errors.New("give values, or --file"))
		}
		if what == "remove" {
			request.Remove = values
		} else {
			request.Add = values
		}
		r, err := call(a, cmd, "changing the set", func(c *client) func(context.Context, *controlv1.EditSetRequest, ...grpc.CallOption) (*controlv1.PushResponse, error) {
			return c.rules.EditSet
		}, request)
		if err != nil {
			return err
		}
		if out.json() {
			return a.printJSON(jsonOf(r))
		}
		return a.printPushed(r, request.DryRun)
	}
	return cmd
}

// setValues returns the values of the command line and of a file.
func (a *app) setValues(cmd *cobra.Command, args []string, file string) (values [][]byte, err error) {
	for _, v := range args {
		values = append(values, []byte(v))
	}
	if file == "" {
		return values, nil
	}
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, unreadable(cmd, "values", "file", file, err)
		}
		defer f.Close()
		in = f
	}
	lines := bufio.NewScanner(io.LimitReader(in, rules.MaxFileBytes))
	lines.Buffer(nil, rules.MaxPatternBytes+1)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" && line[0] != '#' {
			values = append(values, []byte(line))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, unreadable(cmd, "values", "file", file, err)
	}
	return values, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/rules"
)

// ruleVersion is one of the two texts that are compared.
type ruleVersion struct {
	name string // quoted
	text []byte
}

// difference is what diff prints with -o json.
type difference struct {
	From     string   `json:"from"`
	To       string   `json:"to"`
	Added    []string `json:"added"`
	Removed  []string `json:"removed"`
	Changed  []string `json:"changed"`
	Settings bool     `json:"settings_changed"`
	Diff     string   `json:"diff"`
}

func (a *app) diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff [EPOCH [EPOCH] | FILE|-]",
		Short: "Show how two rule sets differ, by rule and by line",
		Long: `diff compares two rule sets that are kept, or a file with the one in force: first the
rules that were added, removed or changed, then the lines, as a unified diff. Without an
argument it shows what the last push has changed; with one epoch, what has changed since.
On a terminal, what does not print is escaped. A file with a number for its name is
written ./7.`,
		Example: `  arbiterctl rules diff
  arbiterctl rules diff 6 8
  arbiterctl rules diff rules.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 2 {
				return fmt.Errorf("give one or two epochs, or a file; got %s", plural(len(args), "argument"))
			}
			return nil
		},
	}
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, to, err := a.versions(cmd, args)
		if err != nil {
			return err
		}
		d := difference{From: from.name, To: to.name, Diff: unified(from, to), Added: []string{}, Removed: []string{}, Changed: []string{}}
		byRule, err := differenceOf(from, to)
		if err != nil {
			fmt.Fprint(a.stderr, prefixed("warning: ", "not compared rule by rule: "+safe(err.Error())))
		}
		if out.json() {
			d.Added, d.Removed, d.Changed, d.Settings = append(d.Added, byRule.Added...), append(d.Removed, byRule.Removed...), append(d.Changed, byRule.Changed...), byRule.Settings
			return a.printJSON(d)
		}
		if d.Diff == "" {
			return a.print(fmt.Sprintf("%s and %s are the same\n", from.name, to.name))
		}
		lines := d.Diff
		if isTerminal(a.stdout) {
			lines = safe(lines)
		}
		return a.print(fmt.Sprintf("from %s to %s\n%s%s", from.name, to.name, differenceText(&controlv1.RuleDiff{Added: byRule.Added, Removed: byRule.Removed, Changed: byRule.Changed, SettingsChanged: byRule.Settings}), lines))
	}
	return cmd
}

// versions fetches what the arguments name.
func (a *app) versions(cmd *cobra.Command, args []string) (from, to ruleVersion, err error) {
	epochs := make([]*uint64, 2)
	for i, arg := range args {
		if n, err := strconv.ParseUint(arg, 10, 64); err == nil {
			epochs[i] = &n
		} else if len(args) == 2 {
			_, err := parseEpoch(cmd, arg, "rules history")
			return from, to, err
		}
	}
	var inForce uint64
	if to, inForce, err = a.version(cmd, epochs[1]); err != nil {
		return from, to, err
	}
	switch {
	case len(args) == 1 && epochs[0] == nil:
		text, name, err := a.readRules(cmd, args[0])
		return to, ruleVersion{audit.Quote(name), text}, err
	case len(args) == 0:
		if epochs[0], err = a.epochBefore(cmd, inForce); err != nil {
			return from, to, err
		}
	}
	from, _, err = a.version(cmd, epochs[0])
	return from, to, err
}

// version fetches a rule set, nil for the one in force.
func (a *app) version(cmd *cobra.Command, epoch *uint64) (ruleVersion, uint64, error) {
	g, err := a.getFile(cmd, &controlv1.GetFileRequest{Epoch: epoch})
	return ruleVersion{fmt.Sprintf("epoch %d", g.GetInfo().GetEpoch()), g.GetSource()}, g.GetInfo().GetEpoch(), err
}

// epochBefore returns the newest epoch before this one that is kept.
func (a *app) epochBefore(cmd *cobra.Command, epoch uint64) (*uint64, error) {
	h, err := call(a, cmd, "listing rules", func(c *client) func(context.Context, *controlv1.HistoryRequest, ...grpc.CallOption) (*controlv1.HistoryResponse, error) {
		return c.rules.History
	}, &controlv1.HistoryRequest{})
	if err != nil {
		return nil, err
	}
	for _, e := range h.Entries { // the newest first
		if e.Epoch < epoch {
			return &e.Epoch, nil
		}
	}
	return nil, fail(exitFailure, "arbiterctl rules history lists the epochs that are kept", fmt.Errorf("no rule set before epoch %d is kept", epoch))
}

// differenceOf compares rule by rule.
func differenceOf(from, to ruleVersion) (rules.Diff, error) {
	options := offlineOptions() // one for both: a cgroup has the same number in each
	options.Epoch = 1
	var sets [2]*rules.RuleSet
	for i, v := range []ruleVersion{from, to} {
		var err error
		if sets[i], err = rules.Load(v.name, v.text, options); err != nil {
			var ps rules.Problems
			if errors.As(err, &ps) && len(ps) > 1 {
				err = fmt.Errorf("%w, and %d more", ps[0], len(ps)-1)
			}
			return rules.Diff{}, err
		}
	}
	return rules.Compare(sets[0], sets[1]), nil
}

// unified returns a unified diff that patch(1) applies, "" for equal texts.
func unified(from, to ruleVersion) string {
	text := diff.Diff(from.name, from.text, to.name, to.text)
	_, text, _ = bytes.Cut(text, []byte("\n")) // the command that it would be
	return string(text)
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter"
	"github.com/arbiterd/arbiter/arbiter/control/controlv1"
	"github.com/arbiterd/arbiter/arbiter/trial"
	"github.com/arbiterd/arbiter/kernelbridge"
	"github.com/arbiterd/arbiter/rules"
)

func (a *app) replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay RECORDING|-...",
		Short: "Decide recorded requests again by a rule file and say what would flip",
		Long: `replay reads recordings, made by "arbiterctl events --all -o json" or by the daemon as
its verdict log, decides each recorded request again, and prints what would come out
otherwise: by kind, rules and program, with how often and the first of each. It needs
no daemon; without --rules it asks the daemon for the rules in force.

A flip is what a program would notice: allow to deny, deny to allow, another errno. That
the same comes out by another rule, or with an audit more or less, is told apart.
Decisions of the very same rule set, known by its fingerprint, must come out bit for bit
as they are recorded.

Nothing is guessed. What hangs on a fact that a record does not have cannot be told, and
is counted so. Failure verdicts and late answers are no decisions and counted apart. A
verdict log has no plain allows, so it cannot show what would newly be refused: record
with --all for that.

A record has the ids of cgroups and a rule file their paths. With --cgroups the paths are
looked up here, which is right on the machine of the recording as long as neither it nor
these cgroups have been started anew. Without it what hangs on a cgroup cannot be told.`,
		Example: `  arbiterctl events --all -o json > day.jsonl
  arbiterctl replay day.jsonl --rules next.yaml
  arbiterctl replay /var/log/arbiter/verdicts.jsonl.1 /var/log/arbiter/verdicts.jsonl`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give a recording, or - for stdin")
			}
			return nil
		},
	}
	file := cmd.Flags().String("rules", "", "the rule file to decide by; without it those in force, which the daemon is asked for")
	cgroups := cmd.Flags().Bool("cgroups", false, "look the cgroups of the rules up on this machine, where the recording was made")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *file == "-" && slices.Contains(args, "-") {
			return usage(cmd, errors.New("stdin cannot be the recording and the rules: give one of them as a file"))
		}
		rs, name, err := a.candidate(cmd, *file, *cgroups)
		if err != nil {
			return err
		}
		c := trial.New(rs, trial.Options{Cgroups: *cgroups})
		p := &replay{recordings: recordings{app: a}, name: name, rules: rs, byNames: c.ByNames(), tally: trial.NewTally(c)}
		for _, arg := range args {
			if err := p.read(cmd, arg, func(e *arbiter.Event) { p.tally.Add(e) }); err != nil {
				return err
			}
		}
		if out.json() {
			err = a.printJSON(p.report())
		} else {
			err = a.print(p.text())
		}
		if err != nil {
			return err
		}
		return p.verdict()
	}
	return cmd
}

// candidate loads the rule file, or else the rules in force.
func (a *app) candidate(cmd *cobra.Command, file string, cgroups bool) (*rules.RuleSet, string, error) {
	var source []byte
	name := file
	if file == "" {
		r, err := a.getFile(cmd, &controlv1.GetFileRequest{})
		if err != nil {
			return nil, "", err
		}
		source, name = r.Source, fmt.Sprintf("epoch %d", r.Info.GetEpoch())
	} else {
		var err error
		if source, name, err = a.readRules(cmd, file); err != nil {
			return nil, "", err
		}
	}
	options := offlineOptions()
	if cgroups {
		options.CgroupID = kernelbridge.CgroupID
	}
	rs, err := rules.Load(name, source, options)
	var ps rules.Problems
	if errors.As(err, &ps) {
		return nil, "", a.refusedRules(ps, "; nothing was decided", "repair the file; docs/policy.md describes rule files")
	}
	if err != nil {
		return nil, "", fail(exitRules, "", err)
	}
	return rs, name, nil
}

// replay is one run.
type replay struct {
	recordings
	name    string // of the candidate
	rules   *rules.RuleSet
	byNames []string
	tally   *trial.Tally
}

// verdict is how the command ends.
func (p *replay) verdict() error {
	t := p.tally
	switch {
	case t.Broken > 0:
		return fail(exitBroken, "keep the recording and the rule file, and report them as a bug: one of the two was changed, or the daemon decided wrongly",
			fmt.Errorf("%s of this very rule set came out otherwise than recorded", plural(t.Broken, "decision")))
	case t.Flips()+t.Changes[trial.Rule] > 0:
		return fail(exitFlips, "", nil)
	case t.Decided == 0:
		return fail(exitFailure, "record what is decided: arbiterctl events --all -o json > FILE", errors.New("no decision could be compared, which proves nothing"))
	}
	return nil
}

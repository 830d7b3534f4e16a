// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/rules"
)

// checked is what check found; the json tags are what -o json prints.
type checked struct {
	Files    []checkedFile    `json:"files"` // the good ones
	Problems []checkedProblem `json:"problems"`
	// With --lint: what cannot be meant, and what may well be, and changes no exit code.
	Lint  []checkedProblem `json:"lint"`
	Notes []checkedProblem `json:"notes"`
}

type checkedFile struct {
	File        string `json:"file"`
	Rules       int    `json:"rules"`
	Fingerprint string `json:"fingerprint"`
}

type checkedProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Rule    string `json:"rule"`
}

func (a *app) checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE|-...",
		Short: "Check rule files without the daemon and print all their problems",
		Long: `check reads rule files as the daemon would and prints every problem as
file:line:column: message; hint. It needs no daemon, and so a file that is fine
here can still be refused by a push: only the daemon can tell whether the scope's
directories and the cgroups exist, and whether its backend can keep such rules.
"rules push --dry-run" asks it and changes nothing.

With --lint it also names, in good files, what cannot be meant: rules that never decide
because an earlier one or their own not block matches all that they do, such as one that
refuses what an earlier one allows, and paths that match nothing because they lead
through a symbolic link of this machine, such as /bin/sh. It exits with 4 then.

Lines with "note:" are about what may well be meant: paths that a user can forge, and
rules that cost more than others. They do not change the exit code.`,
		Example: `  arbiterctl rules check --lint rules.yaml
  arbiterctl rules push --dry-run rules.yaml`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("give a rule file, or - for stdin")
			}
			return nil
		},
	}
	lint := cmd.Flags().Bool("lint", false, "also name what is well-formed and cannot be meant")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := checked{[]checkedFile{}, []checkedProblem{}, []checkedProblem{}, []checkedProblem{}}
		var bad, found, notes rules.Problems
		for _, arg := range args {
			source, name, err := a.readRules(cmd, arg)
			if err != nil {
				return err
			}
			rs, err := rules.Load(name, source, offlineOptions())
			var ps rules.Problems
			switch {
			case errors.As(err, &ps):
				bad = append(bad, ps...)
			case err != nil:
				return fail(exitRules, "repair the file and check it again", err)
			default:
				c.Files = append(c.Files, checkedFile{name, rs.Len(), fingerprint(rs.Fingerprint())})
				if *lint {
					found = append(found, rs.Lint(filepath.EvalSymlinks)...)
					notes = append(notes, rs.Notes()...)
				}
			}
		}
		for _, p := range bad {
			c.Problems = append(c.Problems, checkedProblem(p))
		}
		for _, p := range found {
			c.Lint = append(c.Lint, checkedProblem(p))
		}
		for _, p := range notes {
			c.Notes = append(c.Notes, checkedProblem(p))
		}
		if err := a.printChecked(c, out.json()); err != nil {
			return err
		}
		if len(bad) == 0 && !out.json() {
			a.printLint(found, notes)
		}
		if len(bad)+len(found) == 0 {
			return nil
		}
		if len(bad) == 0 {
			return fail(exitRules, "change what is named, or push it as it is: it does what it says", fmt.Errorf("--lint: %s", plural(len(found), "finding")))
		}
		const next = "repair the file and check it again; docs/policy.md describes rule files"
		if out.json() {
			return fail(exitRules, next, errors.New(plural(len(bad), "problem")))
		}
		return a.refusedRules(bad, "", next)
	}
	return cmd
}

// printLint prints the findings, and then the notes, as compilers do.
func (a *app) printLint(found, notes rules.Problems) {
	for _, p := range found {
		p.File = audit.Quote(p.File)
		fmt.Fprintln(a.stderr, safe(p.Error()))
	}
	for _, p := range notes {
		p.File, p.Rule, p.Message = audit.Quote(p.File), "", "note: rule "+p.Rule+": "+p.Message
		fmt.Fprintln(a.stderr, safe(p.Error()))
	}
}

func (a *app) printChecked(c checked, json bool) error {
	if json {
		return a.printJSON(c)
	}
	var b strings.Builder
	for _, f := range c.Files {
		fmt.Fprintf(&b, "%s: %s, fingerprint %s: fine\n", audit.Quote(f.File), plural(f.Rules, "rule"), f.Fingerprint)
	}
	return a.print(b.String())
}

// offlineOptions compile every file: a cgroup gets a number of its own, whether
// it exists or not.
func offlineOptions() rules.Options {
	ids := map[string]uint64{}
	return rules.Options{CgroupID: func(path string) (uint64, error) {
		if ids[path] == 0 {
			ids[path] = uint64(len(ids) + 1)
		}
		return ids[path], nil
	}}
}

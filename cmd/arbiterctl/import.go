// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/arbiterd/arbiter/arbiter/audit"
	"github.com/arbiterd/arbiter/rules"
	"github.com/arbiterd/arbiter/rules/importer"
)

func (a *app) importCommand() *cobra.Command {
	formats := strings.Join(importer.Formats(), ", ")
	cmd := &cobra.Command{
		Use:   "import FORMAT FILE|-...",
		Short: "Turn policies of other systems into a rule file to be reviewed",
		Long: `import reads policies of another system and writes a rule file that says the same, and a
report of what it does not say, as file:line: what became of it. It needs no daemon and
puts nothing in force: read what it wrote, then push it.

The formats are ` + formats + `; docs/importing.md says what
becomes of what. The files are read in their order, which is kept. A rule that is written
allows no more than its source and refuses no less; one that cannot be written so is left
out, stands in the file as a comment, and the report names who decides in its place.

Names of users and groups are looked up on this machine. It exits with 4 when something
was left out or changed; notes alone are no reason. No file that exists is overwritten.`,
		Example: `  arbiterctl rules import fapolicyd /etc/fapolicyd/rules.d/*.rules --scope / -o rules.yaml
  arbiterctl rules import santa rules.json --lockdown --scope /srv/app --report report.txt
  arbiterctl rules import paths app.service --scope / --scope-cgroup /system.slice/app.service`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("give a format (%s) and the files to import, or - for stdin", formats)
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return importer.Formats(), cobra.ShellCompDirectiveNoFileComp
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	flags := cmd.Flags()
	o := importer.Options{UserID: userID, GroupID: groupID}
	flags.StringArrayVar(&o.Paths, "scope", nil, "a `path` that the rules are about, / for the whole machine; can be given again")
	flags.StringArrayVar(&o.Cgroups, "scope-cgroup", nil, "a `cgroup` whose programs the rules are about; can be given again")
	flags.BoolVar(&o.Lockdown, "lockdown", false, "of santa: what no rule names is not executed")
	flags.StringVar(&o.Setting, "setting", "", "of paths: the unit `setting` that a plain list is of, such as ReadOnlyPaths")
	output := flags.StringP("output", "o", "", "write the rule file to this new `file` instead of stdout")
	report := flags.String("report", "", "write the report to this new `file` instead of stderr")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var sources []importer.Source
		for _, arg := range args[1:] {
			text, name, err := a.readRules(cmd, arg)
			if err != nil {
				return err
			}
			sources = append(sources, importer.Source{Name: name, Text: text})
		}
		r, err := importer.Import(args[0], sources, o)
		var ps rules.Problems
		switch {
		case errors.As(err, &ps):
			return a.refusedRules(ps, "; nothing was imported", "repair the file and import it again; docs/importing.md says what is read")
		case err != nil:
			return usage(cmd, err)
		}
		return a.printImported(r, *output, *report)
	}
	return cmd
}

// printImported writes the rule file and the report, and returns the failure when something is
// missing in the one.
func (a *app) printImported(r *importer.Result, output, report string) error {
	var lines strings.Builder
	left := 0
	for _, f := range r.Findings {
		if f.Level != importer.Note {
			left++
		}
		fmt.Fprintf(&lines, "%s:%d: %s: %s\n", audit.Quote(f.File), f.Line, f.Level, withRule(f))
	}
	if report == "" {
		fmt.Fprint(a.stderr, safe(lines.String()))
	} else if err := writeImported(report, lines.String()); err != nil {
		return err
	}
	if output == "" {
		if err := a.print(string(r.Rules)); err != nil {
			return err
		}
	} else if err := writeImported(output, string(r.Rules)); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "%s imported, %d left out\n", plural(r.Imported, "rule"), r.LeftOut)
	if r.Complete() {
		return nil
	}
	return fail(exitRules, "read the report and the comments of the rule file, and write what is missing by hand; then arbiterctl rules check --lint FILE",
		fmt.Errorf("%s of the source could not be kept as it was", plural(left, "thing")))
}

// withRule returns the message of a finding, after the rule that it is about.
func withRule(f importer.Finding) string {
	if f.Rule == "" {
		return f.Message
	}
	return "rule " + f.Rule + ": " + f.Message
}

// writeImported writes a file that is not there yet: what is there may have been reviewed and
// changed.
func writeImported(name, text string) error {
	err := writeNew(name, []byte(text), 0o644)
	if err == nil {
		return nil
	}
	next := "give another name"
	if errors.Is(err, os.ErrExist) {
		next = "give another name, or move it away first"
	}
	return fail(exitFailure, next, fmt.Errorf("writing %s: %w", quoteArg(name), withoutPath(err)))
}

// userID returns the number of a user of this machine.
func userID(name string) (uint32, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	return parseID(u.Uid)
}

// groupID returns the number of a group of this machine.
func groupID(name string) (uint32, bool) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, false
	}
	return parseID(g.Gid)
}

func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil
}

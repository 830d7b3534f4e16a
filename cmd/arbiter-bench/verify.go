// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/arbiterd/arbiter/bench"
	"github.com/arbiterd/arbiter/bench/claims"
)

// verify holds what the documents say against reports, or against a run of what is needed for it.
func verify(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newFileFlags("verify", "[FILE.json...]")
	var (
		measure = f.Bool("run", false, "measure what the claims need, on top of the reports that are named")
		quick   = f.Bool("quick", false, "with --run: as --quick of the commands")
		only    = f.String("only", "", "claims, their `ids`, comma-separated (default: all)")
		file    = f.String("claims", "", "another `file` of claims than the one of bench/claims.yaml that is built in")
	)
	files, err := f.parse(args, errw)
	if err != nil {
		return err
	}
	if len(files) == 0 && !*measure {
		return usageError{errors.New("verify: name reports, files that --json has written, or give --run to measure")}
	}
	list, err := readClaims(*file, *only)
	if err != nil {
		return err
	}
	var sources []claims.Source
	for _, name := range files {
		s, err := readReport(name)
		if err != nil {
			return err
		}
		sources = append(sources, claims.Source{Name: name, Saved: s})
	}
	if *measure {
		settle := bench.AwaitQuiet
		if *quick {
			settle = func(context.Context, io.Writer) error { return nil }
		}
		measured, err := measureFor(ctx, list, *quick, settle, errw)
		if err != nil {
			return err
		}
		sources = append(sources, measured...)
	}
	findings := claims.Verify(list, sources)
	if err := claims.Write(out, findings); err != nil {
		return err
	}
	count := map[claims.Outcome]int{}
	for _, f := range findings {
		count[f.Outcome]++
	}
	switch {
	case count[claims.DoesNotHold] > 0:
		return errNotHeld
	case count[claims.Holds] == 0:
		return errNoVerdict
	}
	return nil
}

// readClaims reads the file of claims, the built-in one for "", and leaves those with the ids, "" for all.
func readClaims(file, only string) (*claims.File, error) {
	var text io.Reader = strings.NewReader(bench.Claims())
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("opening the claims: %w", err)
		}
		defer f.Close()
		text = f
	}
	list, err := claims.Read(text)
	if err != nil {
		return nil, err
	}
	if only == "" {
		return list, nil
	}
	var chosen []claims.Claim
	var names []string
	for _, c := range list.Claims {
		names = append(names, c.ID)
	}
	for id := range strings.SplitSeq(only, ",") {
		i := slices.Index(names, id)
		if i < 0 {
			return nil, usageError{fmt.Errorf("no claim %q: choose among %s", id, strings.Join(names, ", "))}
		}
		chosen = append(chosen, list.Claims[i])
	}
	list.Claims = chosen
	return list, nil
}

// measureFor runs the scenarios that the claims need, and watches a daemon if one is about that. It calls settle
// between two commands: the load of one would be the next one's noise.
func measureFor(ctx context.Context, list *claims.File, quick bool, settle func(context.Context, io.Writer) error, errw io.Writer) ([]claims.Source, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program to start its children: %w", err)
	}
	o := bench.Options{Self: []string{self, scenarioWord}, Progress: errw}
	if quick {
		o.Rounds, o.Samples = bench.QuickRounds, bench.QuickSamples
	}
	all := ruleScenarios()
	if program, err := besideUs(opaProgram); err == nil { // without it those claims cannot be told
		all = append(all, bench.OPARows(program)...)
	}
	var out []claims.Source
	for _, c := range append(comparisons(), comparison{name: bench.KindRules, list: func() []bench.Scenario { return all }, run: reporting(bench.RunRules)}) {
		if o.Scenarios = needed(c.list(), list.Rows(c.name)); len(o.Scenarios) == 0 {
			continue
		}
		if len(out) > 0 {
			if err := settle(ctx, errw); err != nil {
				return nil, err
			}
		}
		o.Kind = c.name
		r, err := c.run(ctx, o)
		if r == nil {
			return nil, err
		}
		out = append(out, claims.Source{Name: "this run", Saved: &bench.Saved{Kind: c.name, Machine: r.Common().Machine, Run: r.Common()}})
	}
	if slices.ContainsFunc(list.Claims, func(c claims.Claim) bool { return c.Run == bench.KindDaemon }) {
		if len(out) > 0 {
			if err := settle(ctx, errw); err != nil {
				return nil, err
			}
		}
		d, err := measureDaemon(ctx, "", os.DevNull, bench.DaemonWindow)
		if err != nil {
			return nil, err
		}
		out = append(out, claims.Source{Name: "this run", Saved: &bench.Saved{Kind: bench.KindDaemon, Machine: d.Machine, Daemon: d}})
	}
	return out, nil
}

// needed returns the scenarios that one of the patterns is for.
func needed(all []bench.Scenario, patterns []string) []bench.Scenario {
	var out []bench.Scenario
	for _, s := range all {
		if slices.ContainsFunc(patterns, func(p string) bool { return claims.Matches(p, s.Describe().ID) }) {
			out = append(out, s)
		}
	}
	return out
}

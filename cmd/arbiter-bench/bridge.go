// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

func bridge(ctx context.Context, args []string, out, errw io.Writer) error {
	f := newRunFlags("bridge")
	o, err := f.options(args, errw, func() ([]bench.Scenario, error) { return bench.Bridge(), nil })
	if err != nil {
		return err
	}
	report, err := bench.Run(ctx, o)
	if report == nil {
		return notRun(ctx, err)
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*f.file, report))
}

// runFlags are the flags of a comparison.
type runFlags struct {
	*flag.FlagSet
	rounds, samples  *int
	quick            *bool
	cpus, file, only *string
}

func newRunFlags(name string) *runFlags {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	return &runFlags{f,
		f.Int("rounds", 0, fmt.Sprintf("rounds, 1 to %d (default %d)", bench.MaxRounds, bench.DefaultRounds)),
		f.Int("samples", 0, fmt.Sprintf("samples per round and scenario, 1 to %d (default %d)", bench.MaxSamples, bench.DefaultSamples)),
		f.Bool("quick", false, fmt.Sprintf("%d rounds of %d samples: seconds, but a rough tail", bench.QuickRounds, bench.QuickSamples)),
		f.String("cpus", "", "`A,B`: the requester's CPU and the other one (default: the first two)"),
		f.String("json", "", "write the report to this `file` as well"),
		f.String("only", "", "scenario `ids`, comma-separated (default: all)"),
	}
}

// options reads the flags; list, called after that, returns what there is to choose from.
func (f *runFlags) options(args []string, errw io.Writer, list func() ([]bench.Scenario, error)) (bench.Options, error) {
	var o bench.Options
	if err := parse(f.FlagSet, args, errw); err != nil {
		return o, err
	}
	o = bench.Options{Rounds: *f.rounds, Samples: *f.samples, Progress: errw}
	if *f.quick {
		if o.Rounds == 0 {
			o.Rounds = bench.QuickRounds
		}
		if o.Samples == 0 {
			o.Samples = bench.QuickSamples
		}
	}
	var err error
	if o.CPUs, err = cpuPair(*f.cpus); err != nil {
		return o, usageError{err}
	}
	all, err := list()
	if err != nil {
		return o, err
	}
	if o.Scenarios, err = choose(all, *f.only); err != nil {
		return o, usageError{err}
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("finding this program to start its children: %w", err)
	}
	o.Self = []string{self, scenarioWord}
	return o, nil
}

// notRun says whose fault it is that there is no report.
func notRun(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return usageError{err}
	}
	return err
}

func saveJSON(file string, r interface{ WriteJSON(io.Writer) error }) error {
	if file == "" {
		return nil
	}
	return writeFile(file, r.WriteJSON)
}

func cpuPair(s string) ([]int, error) {
	if s == "" {
		return nil, nil
	}
	a, b, ok := strings.Cut(s, ",")
	first, err1 := strconv.Atoi(a)
	second, err2 := strconv.Atoi(b)
	if !ok || err1 != nil || err2 != nil || first < 0 || second < 0 {
		return nil, fmt.Errorf("CPUs %q: write two numbers, such as 0,1", s)
	}
	return []int{first, second}, nil
}

func choose(all []bench.Scenario, only string) ([]bench.Scenario, error) {
	if only == "" {
		return all, nil
	}
	var list []bench.Scenario
	for id := range strings.SplitSeq(only, ",") {
		s, ok := bench.Find(all, id)
		if !ok {
			return nil, fmt.Errorf("no scenario %q: choose among %s", id, ids(all))
		}
		if _, twice := bench.Find(list, id); twice {
			return nil, fmt.Errorf("scenario %q is named twice: name it once", id)
		}
		list = append(list, s)
	}
	return list, nil
}

func ids(list []bench.Scenario) string {
	var names []string
	for _, s := range list {
		names = append(names, s.Describe().ID)
	}
	return strings.Join(names, ", ")
}

// scenario is the child's side: its arguments come from the parent.
func scenario(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 2 {
		return usageError{errors.New("scenario is started by bridge and rules themselves")}
	}
	s, ok := bench.Find(slices.Concat(bench.Bridge(), ruleScenarios()), args[0])
	if !ok {
		return usageError{fmt.Errorf("no scenario %q", args[0])}
	}
	at, err := bench.ParsePlace(args[1])
	if err != nil {
		return usageError{err}
	}
	return bench.Serve(s, at, in, out)
}

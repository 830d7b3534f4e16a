// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

// parse reads a command's flags; it takes no other arguments.
func parse(f *flag.FlagSet, args []string, out io.Writer) error {
	f.SetOutput(out)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if f.NArg() > 0 {
		return usageError{fmt.Errorf("%s: unexpected argument %q", f.Name(), f.Arg(0))}
	}
	return nil
}

// runFlags are the flags of a comparison.
type runFlags struct {
	*flag.FlagSet
	rounds, samples  *int
	quick            *bool
	cpus, file, only *string
	logs, profiles   *string
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
		f.String("hdr", "", "write each scenario's histograms, a round each, to this `folder` as ID.hlog"),
		f.String("profile", "", "write a CPU profile of each scenario's process to this `folder` as ID.pprof; it disturbs the tails"),
	}
}

// options reads the flags; list, called after that, returns what there is to choose from.
func (f *runFlags) options(args []string, errw io.Writer, list func() ([]bench.Scenario, error)) (bench.Options, error) {
	var o bench.Options
	if err := parse(f.FlagSet, args, errw); err != nil {
		return o, err
	}
	o = bench.Options{Kind: f.Name(), Rounds: *f.rounds, Samples: *f.samples, Progress: errw}
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
	if *f.logs != "" { // now rather than after minutes of measuring
		if err := os.MkdirAll(*f.logs, 0o755); err != nil {
			return o, fmt.Errorf("making the folder of the histograms: %w", err)
		}
		o.Done = func(r *bench.Report) error { return writeLogs(*f.logs, r) }
	}
	if *f.profiles != "" {
		dir, err := filepath.Abs(*f.profiles)
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err != nil {
			return o, fmt.Errorf("making the folder of the profiles: %w", err)
		}
		o.Env = append(o.Env, bench.ProfileEnv+"="+dir)
	}
	self, err := os.Executable()
	if err != nil {
		return o, fmt.Errorf("finding this program to start its children: %w", err)
	}
	o.Self = []string{self, scenarioWord}
	return o, nil
}

// writeLogs writes the histograms of each row to a folder.
func writeLogs(dir string, r *bench.Report) error {
	var errs []error
	for i := range r.Scenarios {
		if s := &r.Scenarios[i]; s.Samples > 0 {
			errs = append(errs, writeFile(filepath.Join(dir, s.ID+".hlog"), func(w io.Writer) error { return r.WriteLog(w, s) }))
		}
	}
	return errors.Join(errs...)
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/arbiterd/arbiter/bench"
)

func bridge(ctx context.Context, args []string, out, errw io.Writer) error {
	f := flag.NewFlagSet("bridge", flag.ContinueOnError)
	var (
		rounds  = f.Int("rounds", 0, fmt.Sprintf("rounds, 1 to %d (default %d)", bench.MaxRounds, bench.DefaultRounds))
		samples = f.Int("samples", 0, fmt.Sprintf("samples per round and scenario, 1 to %d (default %d)", bench.MaxSamples, bench.DefaultSamples))
		quick   = f.Bool("quick", false, fmt.Sprintf("%d rounds of %d samples: seconds, but a rough tail", bench.QuickRounds, bench.QuickSamples))
		cpus    = f.String("cpus", "", "`A,B`: the requester's CPU and the other one (default: the first two)")
		file    = f.String("json", "", "write the report to this `file` as well")
		only    = f.String("only", "", "scenario `ids`, comma-separated (default: all)")
	)
	if err := parse(f, args, errw); err != nil {
		return err
	}
	o := bench.Options{Rounds: *rounds, Samples: *samples, Progress: errw}
	if *quick {
		if o.Rounds == 0 {
			o.Rounds = bench.QuickRounds
		}
		if o.Samples == 0 {
			o.Samples = bench.QuickSamples
		}
	}
	var err error
	if o.CPUs, err = cpuPair(*cpus); err != nil {
		return usageError{err}
	}
	if o.Scenarios, err = choose(*only); err != nil {
		return usageError{err}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program to start its children: %w", err)
	}
	o.Self = []string{self, scenarioWord}

	report, err := bench.Run(ctx, o)
	if report == nil {
		if ctx.Err() == nil {
			return usageError{err}
		}
		return err
	}
	return errors.Join(err, report.WriteTable(out), saveJSON(*file, report))
}

func saveJSON(file string, r *bench.Report) error {
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

func choose(only string) ([]bench.Scenario, error) {
	all := bench.Bridge()
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
		return usageError{errors.New("scenario is started by bridge itself")}
	}
	s, ok := bench.Find(bench.Bridge(), args[0])
	if !ok {
		return usageError{fmt.Errorf("no scenario %q", args[0])}
	}
	var at bench.Place
	if n, err := fmt.Sscanf(args[1], "%d,%d", &at.Requester, &at.Responder); n != 2 || err != nil {
		return usageError{fmt.Errorf("CPUs %q: want two numbers", args[1])}
	}
	return bench.Serve(s, at, in, out)
}

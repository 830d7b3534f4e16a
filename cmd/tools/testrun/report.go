// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

type totals struct{ passed, failed, skipped int }

func count(outcomes []outcome) totals {
	var t totals
	for _, o := range outcomes {
		switch o.Action {
		case "pass":
			t.passed++
		case "fail":
			t.failed++
		case "skip":
			t.skipped++
		}
	}
	return t
}

// report prints the failures by name, the skips by reason, the slowest tests, and the sum.
func report(w io.Writer, phase string, outcomes []outcome) {
	byReason := map[string][]string{}
	for _, o := range outcomes {
		switch {
		case o.Action == "skip":
			reason := o.Reason
			if o.Owed != "" {
				reason += " (run in phase " + o.Owed + ")"
			}
			byReason[reason] = append(byReason[reason], short(o))
		case o.Action == "fail" && o.Reason != "":
			fmt.Fprintf(w, "FAILED %s: skipped here, and no line of the allowed skips covers it: %s\n", short(o), o.Reason)
		case o.Action == "fail":
			fmt.Fprintf(w, "FAILED %s\n", short(o))
		}
	}
	reasons := make([]string, 0, len(byReason))
	for r := range byReason {
		reasons = append(reasons, r)
	}
	slices.Sort(reasons)
	for _, r := range reasons {
		fmt.Fprintf(w, "SKIPPED %s\n", r)
		slices.Sort(byReason[r])
		for _, t := range byReason[r] {
			fmt.Fprintf(w, "        %s\n", t)
		}
	}
	for _, o := range slowest(outcomes) {
		fmt.Fprintf(w, "SLOW    %.1f s %s\n", o.Seconds, short(o))
	}
	t := count(outcomes)
	fmt.Fprintf(w, "%s: %d passed, %d failed, %d skipped\n", phase, t.passed, t.failed, t.skipped)
}

// What slowest finds: so many tests at most, each of so many seconds at least.
const (
	slowTests   = 5
	slowSeconds = 5
)

// slowest returns those tests, without their parts, that make a run long, the slowest first.
func slowest(outcomes []outcome) []outcome {
	var slow []outcome
	for _, o := range outcomes {
		if o.Seconds >= slowSeconds && !strings.Contains(o.Test, "/") {
			slow = append(slow, o)
		}
	}
	slices.SortFunc(slow, func(a, b outcome) int { return cmp.Compare(b.Seconds, a.Seconds) })
	return slow[:min(slowTests, len(slow))]
}

// settleFiles checks the debts between the phases: a skip that another phase
// owes must have passed in at least one run of that phase.
func settleFiles(w io.Writer, names []string) (bool, error) {
	var all []outcome
	for _, name := range names {
		outcomes, err := readRecord(name)
		if err != nil {
			return false, fmt.Errorf("reading the record %s: %w", name, err)
		}
		all = append(all, outcomes...)
	}
	unpaid := settle(all)
	for _, o := range unpaid {
		fmt.Fprintf(w, "FAILED %s: skipped in phase %s (%s), and no run of phase %s passed it\n", short(o), o.Phase, o.Reason, o.Owed)
	}
	t := count(all)
	t.skipped -= len(unpaid)
	t.failed += len(unpaid)
	fmt.Fprintf(w, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
	return t.failed == 0, nil
}

func settle(all []outcome) []outcome {
	var unpaid []outcome
	for _, o := range all {
		if o.Action != "skip" || o.Owed == "" {
			continue
		}
		paid := slices.ContainsFunc(all, func(p outcome) bool {
			return p.Action == "pass" && p.Package == o.Package && p.Test == o.Test && strings.HasPrefix(p.Phase, o.Owed)
		})
		if !paid {
			unpaid = append(unpaid, o)
		}
	}
	return unpaid
}

func readRecord(name string) ([]outcome, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []outcome
	dec := json.NewDecoder(bufio.NewReader(f))
	for {
		var o outcome
		err := dec.Decode(&o)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
}
